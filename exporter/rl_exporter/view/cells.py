"""Formats every number of a head for people.

The terminal panel, ``--once``, the landing page and the trainer's table share these cells, so that a number
looks the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from rl_exporter.heads import Head
from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW, HeadState, level
from rl_exporter.snapshot import HeadReading

ABSENT = "-"
"""Shown for a value that was not measured. Never 0: a zero would look like a collapse."""


class Tone(StrEnum):
    """Meaning of a text's colour, where no ratio decides it. Each output maps it to its own colours."""

    PLAIN = "plain"
    DIM = "dim"
    STRONG = "strong"
    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class Cell(NamedTuple):
    """A text in the colour of the level of ``ratio``, or of ``tone`` where there is no level."""

    text: str
    tone: Tone = Tone.PLAIN
    ratio: float | None = None


class Bar(NamedTuple):
    """A bar, filled from 0 to 1, as wide as the output has room for. Coloured as a cell."""

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
"""A deterministic head that had no choice: no sign of a collapse, so it is dim."""


def printable(text: str) -> str:
    """Replace control characters: a name must not steer the terminal or break a line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def number(plain: float | None) -> str:
    """A number with three decimals, or with three digits and an exponent from a thousand on."""
    if plain is None:
        return ABSENT
    if math.isnan(plain):
        return "NaN"
    if math.isinf(plain):
        return "Inf" if plain > 0 else "-Inf"
    # A small negative loss would otherwise round to "-0.000".
    text = f"{plain:.3f}" if abs(plain) < 1000 else f"{plain:.2e}"
    return "0.000" if text == "-0.000" else text


def share(value: float | None) -> str:
    """A share in [0, 1] as a percentage. Only never reads 0%, and only always reads 100%."""
    if value is None or not math.isfinite(value):
        return ABSENT if value is None else number(value)
    if 0 < value < 0.01:
        return "<1%"
    if 0.99 < value < 1:
        return ">99%"
    return f"{value:.0%}"


def level_letter(ratio: float | None) -> str:
    """H, W or C, so that the level shows without colours too. Empty for a ratio without a level."""
    verdict = level(ratio)
    return verdict[0].upper() if verdict else ""


def prefix(head: Head) -> str:
    """``1.3x`` for a head with an entropy coefficient above the base, else empty."""
    return f"{head.entropy_multiplier:g}x" if head.entropy_multiplier > 1 else ""


def judged(text: str, ratio: float | None) -> Cell:
    """``text`` with the letter and in the colour of the level of ``ratio``."""
    letter = level_letter(ratio)
    return Cell(f"{text} {letter}", ratio=ratio) if letter else Cell(text, Tone.DIM)


def judged_ratio(value: float | None) -> Cell:
    """An entropy ratio with the letter and in the colour of its own level."""
    return judged(number(value), value)


def level_word(value: float | None) -> Cell:
    """The level of an entropy ratio as a word, in its colour."""
    verdict = level(value)
    return Cell(verdict.value, ratio=value) if verdict else NOTHING


def nats(value: float | None) -> str:
    """An entropy with its unit."""
    return ABSENT if value is None else f"{number(value)} nats"


def entropy(head: Head, reading: HeadReading) -> Cell:
    """Entropy in nats after the coefficient's prefix.

    The normalized entropy decides letter and colour, because the maximum in nats differs between heads.
    """
    if not reading.measured:
        return NOTHING
    return judged(f"{prefix(head)}{number(reading.entropy)}", reading.normalized)


def entropy_bar(reading: HeadReading) -> Part:
    """The normalized entropy as a bar, or an empty cell."""
    ratio = reading.normalized
    if ratio is None or not math.isfinite(ratio):
        return Cell("")
    return Bar(min(max(ratio, 0.0), 1.0), ratio=ratio)


def choice(reading: HeadReading) -> tuple[Part, ...]:
    """Choice entropy in the colour of its own level, and the share of steps that it was measured at."""
    judged_entropy = judged_ratio(reading.choice_entropy)
    if reading.choice_share is None:
        return (judged_entropy,)
    return judged_entropy, Cell(share(reading.choice_share), Tone.DIM)


def gradient(reading: HeadReading, trend: str = "") -> tuple[Part, ...]:
    """Gradient norm, its trend, and a logarithmic bar: empty when it vanishes, full when it explodes."""
    norm = reading.gradient_norm
    if norm is None or not math.isfinite(norm):
        return (Cell(number(norm), Tone.DIM),)
    tone = Tone.PLAIN
    if norm > EXPLODING_ABOVE:
        tone = Tone.CRITICAL
    elif norm < VANISHING_BELOW:
        tone = Tone.WARNING
    # A blank instead of no trend keeps the bar in its place.
    return Cell(f"{number(norm)}{trend or ' '}", tone), Bar(gradient_fill(norm), tone)


def gradient_fill(norm: float) -> float:
    """Fill of the bar: 0 up to the vanishing norm, 1 from the exploding one on, logarithmic between."""
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
    """How many NaNs and infinities the run has counted."""
    if not reading.nan_values and not reading.inf_values:
        return NOTHING
    counted = ((reading.nan_values, "NaN"), (reading.inf_values, "Inf"))
    return Cell(" ".join(f"{count} {kind}" for count, kind in counted if count), Tone.CRITICAL)


def value(plain: float | None) -> Cell:
    """A number without a verdict."""
    return NOTHING if plain is None else Cell(number(plain))


def updates_old(updates: int | None) -> Cell:
    """How many updates ago the head was last measured. Absent if it was the last one."""
    return Cell(f"{updates} update{'' if updates == 1 else 's'}", Tone.WARNING) if updates else NOTHING


_SPARKS = "▁▂▃▄▅▆▇█"


def sparkline(ratios: Iterable[float | None]) -> tuple[Cell, ...]:
    """One character for each ratio, in the colour of its level. A gap for an update without a ratio."""
    return tuple(
        Cell(" ")
        if ratio is None or not math.isfinite(ratio)
        else Cell(_SPARKS[min(max(int(ratio * 8), 0), 7)], ratio=ratio)
        for ratio in ratios
    )


def age(seconds: float) -> str:
    """A time span, in whole units of its largest unit."""
    # The clocks of two machines differ, so an age can come out negative.
    whole = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
