"""Kinds of values that settings have: their bounds, their checks, and what to give instead of a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from rl_exporter.cli.parser import given_path
from rl_exporter.discovery.identity import parse_advertised
from rl_exporter.discovery.labels import check_labels
from rl_exporter.heads import Head, require_label_value
from rl_exporter.intervention.controller import require_ratio
from rl_exporter.notify.destination import parse_destination
from rl_exporter.server.listen import parse_listen_address


class Remedy(NamedTuple):
    """What to give instead of an impossible value; error messages end with it."""

    text: str


def _address(text: str) -> str:
    parse_listen_address(text, auto=True)
    return text


def _advertised(text: str) -> str:
    parse_advertised(text)
    return text


def _webhook(text: str) -> str:
    parse_destination(text)
    return text


def _label_value(text: str) -> str:
    require_label_value("text", text)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty name identifies nothing; give one, or leave the option out")
    return text


def _given(path: object) -> object:
    return given_path(path) if isinstance(path, str) else path


def _update(value: object) -> object:
    """In a file the number of an update is one, without quotes."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _which(text: str) -> str:
    if text != "best" and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} names no checkpoint; give best, or the number of its update, such as 120")
    return text if text == "best" else str(int(text))


def _word(value: object) -> object:
    """YAML reads on and off, without quotes, as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _targets(ratios: Mapping[str, float]) -> Mapping[str, float]:
    for name, ratio in ratios.items():
        require_ratio(name, ratio)
    return ratios


def _thresholds(pairs: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    for name, (warning, critical) in pairs.items():
        Head(name, 2, warning=warning, critical=critical)
    return pairs


def _references(references: Mapping[str, str | float]) -> Mapping[str, str | float]:
    for name, reference in references.items():
        Head(name, 2, reference=reference)
    return references


Positive = Annotated[int, Field(ge=1, le=2**31), Remedy("a whole number >= 1")]
Natural = Annotated[int, Field(ge=0, le=2**31), Remedy("a whole number >= 0")]
Rate = Annotated[float, Field(gt=0, le=1e3), Remedy("a number above 0")]
Share = Annotated[float, Field(ge=0, le=1), Remedy("a number from 0 to 1")]
Timeout = Annotated[float, Field(gt=0, le=1e6), Remedy("seconds above 0")]
Seconds = Annotated[float, Field(ge=0, le=1e9), Remedy("seconds >= 0")]
Factors = Annotated[
    Mapping[str, Annotated[float, Field(ge=0, le=1e6)]],
    Remedy("a factor >= 0 for each head, such as blueprint=1.3"),
]
Thresholds = Annotated[
    Mapping[str, Annotated[tuple[float, float], Field(strict=False)]],
    AfterValidator(_thresholds),
    Remedy("WARNING and CRITICAL, from 0 (off) to 1, for each head, such as blueprint=0.4,0.2"),
]
References = Annotated[
    Mapping[str, str | float],
    AfterValidator(_references),
    Remedy("maximum, start or nats above 0 for each head, such as blueprint=start"),
]
EntropyTargets = Annotated[
    Mapping[str, float],
    AfterValidator(_targets),
    Remedy("an effective entropy ratio between 0 and 1 for each head, such as blueprint=0.4"),
]
ControllerMode = Annotated[
    Literal["off", "observe", "on"], BeforeValidator(_word), Remedy("off, observe or on")
]
_QUOTED = "in quotes where YAML would read a number, a date or a switch"
Switch = Annotated[bool, Remedy("true or false")]
Critic = Annotated[Literal["own", "shared"], Remedy("own or shared")]
Precision = Annotated[Literal["float32", "bfloat16"], Remedy("float32 or bfloat16")]
Schedule = Annotated[Literal["linear", "constant"], Remedy("linear or constant")]
Text = Annotated[str, AfterValidator(_label_value), Remedy(f"a text, {_QUOTED}")]
File = Annotated[Path, Field(strict=False), BeforeValidator(_given), Remedy(f"a path, {_QUOTED}")]
Name = Annotated[str, AfterValidator(_not_blank), AfterValidator(_label_value), Remedy(f"a text, {_QUOTED}")]
Which = Annotated[
    str, BeforeValidator(_update), AfterValidator(_which), Remedy("best, or the number of an update")
]
Address = Annotated[str, AfterValidator(_address), Remedy("HOST:PORT or auto")]
Advertised = Annotated[str, AfterValidator(_advertised), Remedy("HOST or HOST:PORT")]
Webhook = Annotated[str, AfterValidator(_webhook), Remedy("the URL of a webhook, or @FILE")]
Labels = Annotated[
    Mapping[str, str],
    AfterValidator(check_labels),
    Remedy(f"a text for each label, such as cluster=lab, {_QUOTED}"),
]
