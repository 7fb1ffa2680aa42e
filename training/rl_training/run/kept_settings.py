"""What a checkpoint keeps of the settings of its run, so that ``rl-train play`` can replay the policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from rl_training.config import PPOConfig, Settings
from rl_training.literals import is_huge, literal, parse_literal
from rl_training.run.settings import SettingsError, Values, checked_document, plain, settings_of

_READERS: Mapping[str, Callable[[str], Any]] = {
    "!literal": parse_literal,
    "!date": date.fromisoformat,
    "!datetime": datetime.fromisoformat,
}
"""How the only value of a mapping with one of these keys is read: JSON has no tuples, say."""

_LEFT_OUT = "left-out"
_JSON = (bool, int, float, str, type(None))


class Kept(NamedTuple):
    """Values by section, and the arguments of the environment that could not be kept."""

    values: Values
    left_out: Sequence[str] = ()


def kept_settings(settings: Settings) -> str:
    """The environment, its arguments, and how the policy learns, as JSON.

    JSON, because a checkpoint may come from elsewhere, and YAML lets few bytes stand for many. An argument that
    cannot be written is left out, and named; a checkpoint must not fail for it.
    """
    environment, left_out = {}, []
    for key, value in settings.environment.items():
        try:
            environment[key] = _written(value)
        except (ValueError, RecursionError):
            left_out.append(str(key))
    known = settings_of(PPOConfig)
    document: dict[str, Any] = {
        "run": {"env": settings.run.env},
        "environment": environment,
        "learning": {key: plain(getattr(settings.learning, s.field.name)) for key, s in known.items()},
    }
    return json.dumps({**document, _LEFT_OUT: left_out} if left_out else document)


def parsed_settings(text: str) -> Kept:
    """The values that ``kept_settings`` wrote. Raises SettingsError for anything else."""
    try:
        document = json.loads(text, object_hook=_read)
        left_out = document.pop(_LEFT_OUT, []) if isinstance(document, dict) else []
        return Kept(checked_document(document), [str(key) for key in left_out])
    except SettingsError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"no JSON of settings: {' '.join(str(error).split())[:120]}") from error


def _written(value: Any) -> Any:
    if isinstance(value, _JSON) and not is_huge(value):
        return value
    if isinstance(value, datetime):
        return {"!datetime": value.isoformat()}
    if isinstance(value, date):
        return {"!date": value.isoformat()}
    if isinstance(value, list):
        return [_written(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value) and not _tag(value):
        return {key: _written(item) for key, item in value.items()}
    return {"!literal": literal(value)}


def _read(document: dict[str, Any]) -> Any:
    tag = _tag(document)
    return _READERS[tag](document[tag]) if tag else document


def _tag(document: Mapping[str, Any]) -> str:
    return next(iter(document.keys() & _READERS.keys()), "") if len(document) == 1 else ""
