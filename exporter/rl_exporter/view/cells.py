"""Every number of a head as people read it. The terminal panel, ``--once`` and the landing page share these."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from rl_exporter.heads import Head
from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW, HeadState, level
from rl_exporter.snapshot import HeadReading

ABSENT = "-"
"""Stands for what was not measured."""


class Tone(StrEnum):
    """How a text is meant to look where no ratio decides its colour."""

    PLAIN = "plain"
    DIM = "dim"
    STRONG = "strong"
    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class Cell(NamedTuple):
    """A text. ``ratio`` is the entropy ratio whose level colours it; without one ``tone`` does."""

    text: str
    tone: Tone = Tone.PLAIN
    ratio: float | None = None


class Bar(NamedTuple):
    """A bar, filled from 0 to 1, that takes what room there is; coloured as a cell is."""

    fill: float
    tone: Tone = Tone.PLAIN
    ratio: float | None = None


Part = Cell | Bar

NOTHING = Cell(ABSENT, Tone.DIM)

SYMBOLS = {
    HeadState.EXPLODING: Cell("▲", Tone.CRITICAL),
    HeadState.DEAD: Cell("○", Tone.CRITICAL),
    HeadState.DETERMINISTIC: Cell("◆", Tone.WARNING),
    HeadState.CONFUSED: Cell("◐", Tone.WARNING),
    HeadState.HEALTHY: Cell("●", Tone.HEALTHY),
    HeadState.UNSETTLED: Cell("•", Tone.DIM),
}
"""Triangle, circle, diamond, half moon, dot, dim dot."""

NO_CHOICE = Cell("◇", Tone.DIM)
"""A deterministic head that could not do otherwise."""


def printable(text: str) -> str:
    """``text`` with what could steer a terminal, or break a line, replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def number(plain: float | None) -> str:
    """Three decimals; beyond a thousand three digits and an exponent."""
    if plain is None:
        return ABSENT
    if math.isnan(plain):
        return "NaN"
    if math.isinf(plain):
        return "Inf" if plain > 0 else "-Inf"
    text = f"{plain:.3f}" if abs(plain) < 1000 else f"{plain:.2e}"
    return "0.000" if text == "-0.000" else text


def share(value: float | None) -> str:
    """A share in [0, 1] as a percentage. Only none and all read 0% and 100%."""
    if value is None or not math.isfinite(value):
        return ABSENT if value is None else number(value)
    if 0 < value < 0.01:
        return "<1%"
    if 0.99 < value < 1:
        return ">99%"
    return f"{value:.0%}"


def level_letter(ratio: float | None) -> str:
    """H, W or C; empty for a ratio without a level."""
    verdict = level(ratio)
    return verdict[0].upper() if verdict else ""


def prefix(head: Head) -> str:
    """``1.3x`` for a head whose entropy coefficient is above the base, else nothing."""
    return f"{head.entropy_multiplier:g}x" if head.entropy_multiplier > 1 else ""


def judged(text: str, ratio: float | None) -> Cell:
    """``text`` with the letter of the level of ``ratio``, in the colour of that level."""
    letter = level_letter(ratio)
    return Cell(f"{text} {letter}", ratio=ratio) if letter else Cell(text, Tone.DIM)


def judged_ratio(value: float | None) -> Cell:
    """An entropy ratio with the letter and the colour of its own level."""
    return judged(number(value), value)


def level_word(value: float | None) -> Cell:
    """The level of an entropy ratio as a word, in its colour."""
    verdict = level(value)
    return Cell(verdict.value, ratio=value) if verdict else NOTHING


def nats(value: float | None) -> str:
    """An entropy with its unit."""
    return ABSENT if value is None else f"{number(value)} nats"


def entropy(head: Head, reading: HeadReading) -> Cell:
    """Entropy in nats behind the coefficient's prefix; the normalized entropy decides the colour."""
    if not reading.measured:
        return NOTHING
    return judged(f"{prefix(head)}{number(reading.entropy)}", reading.normalized)


def entropy_bar(reading: HeadReading) -> Part:
    """The normalized entropy as a bar; a head without one has none."""
    ratio = reading.normalized
    if ratio is None or not math.isfinite(ratio):
        return Cell("")
    return Bar(min(max(ratio, 0.0), 1.0), ratio=ratio)


def choice(reading: HeadReading) -> tuple[Part, ...]:
    """Choice entropy in the colour of its own level, and the share of the steps that it is from."""
    judged_entropy = judged_ratio(reading.choice_entropy)
    if reading.choice_share is None:
        return (judged_entropy,)
    return judged_entropy, Cell(share(reading.choice_share), Tone.DIM)


def gradient(reading: HeadReading, trend: str = "") -> tuple[Part, ...]:
    """Gradient norm, its trend, and a bar: empty where it vanishes, full where it explodes, logarithmic."""
    norm = reading.gradient_norm
    if norm is None or not math.isfinite(norm):
        return (Cell(number(norm), Tone.DIM),)
    tone = Tone.PLAIN
    if norm > EXPLODING_ABOVE:
        tone = Tone.CRITICAL
    elif norm < VANISHING_BELOW:
        tone = Tone.WARNING
    return Cell(f"{number(norm)}{trend or ' '}", tone), Bar(gradient_fill(norm), tone)


def gradient_fill(norm: float) -> float:
    """0 at or below the vanishing norm, 1 at or above the exploding one, in proportion to the logarithm."""
    if norm <= VANISHING_BELOW:
        return 0.0
    return min(math.log(norm / VANISHING_BELOW) / math.log(EXPLODING_ABOVE / VANISHING_BELOW), 1.0)


def state(reading: HeadReading) -> tuple[Cell, ...]:
    """Symbol and word of the head's state."""
    if reading.state is None:
        return (NOTHING,)
    without_choice = reading.state is HeadState.DETERMINISTIC and reading.effective is None
    symbol = NO_CHOICE if without_choice else SYMBOLS[reading.state]
    return symbol, Cell("no choice" if without_choice else reading.state.value, symbol.tone)


def nonfinite(reading: HeadReading) -> Cell:
    """How many NaNs and infinities were counted."""
    if not reading.nan_values and not reading.inf_values:
        return NOTHING
    counted = ((reading.nan_values, "NaN"), (reading.inf_values, "Inf"))
    return Cell(" ".join(f"{count} {kind}" for count, kind in counted if count), Tone.CRITICAL)


def value(plain: float | None) -> Cell:
    """A number without a verdict."""
    return NOTHING if plain is None else Cell(number(plain))


def updates_old(updates: int | None) -> Cell:
    """How many updates ago a head was last measured, when it was not the last one."""
    return Cell(f"{updates} update{'' if updates == 1 else 's'}", Tone.WARNING) if updates else NOTHING


_SPARKS = "▁▂▃▄▅▆▇█"


def sparkline(ratios: Iterable[float | None]) -> tuple[Cell, ...]:
    """A ratio a character, each in the colour of its level; a gap where nothing can be said."""
    return tuple(
        Cell(" ")
        if ratio is None or not math.isfinite(ratio)
        else Cell(_SPARKS[min(max(int(ratio * 8), 0), 7)], ratio=ratio)
        for ratio in ratios
    )


def age(seconds: float) -> str:
    """A time span in its largest unit."""
    whole = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
