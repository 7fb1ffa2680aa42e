"""Reads configuration files in the formats of Prometheus. An unknown key is an error that names it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from rl_exporter.guarded import parse_yaml, read_file

_MAX_BYTES = 2**20


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names file, key and remedy in one line."""


class Section(BaseModel):
    """A mapping of a configuration file, with no other keys than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=Section)


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("give the path of a file")
    assert info.context is not None
    return Path(info.context["folder"]) / value


FilePath = Annotated[Path, BeforeValidator(_beside_the_file)]
"""A path, relative to the folder of the configuration file, as Prometheus reads it."""


def load(model: type[Model], path: Path) -> Model:
    """The content of a YAML file as ``model``. Raises ConfigError."""
    try:
        document = parse_yaml(read_file(path, _MAX_BYTES).decode())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise ConfigError(f"{str(path)!r}: {reason}; give a YAML file that can be read") from error
    try:
        return model.model_validate({} if document is None else document, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError(f"{str(path)!r}: {_reason(error, model)}") from error


def _reason(error: ValidationError, model: type[Section]) -> str:
    """The first error in one line. It never holds the value, which may be a password."""
    # A key that is none explains one that is missing.
    first = min(error.errors(include_input=False), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        known = _keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)[0]
        return f"unknown key {where!r}; the nearest one is {near!r}, and there are {', '.join(known)}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _keys(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at ``path``."""
    for part in path:
        kinds = model.model_fields[part].annotation
        model = next(kind for kind in (kinds, *getattr(kinds, "__args__", ())) if hasattr(kind, "model_fields"))
    return list(model.model_fields)
