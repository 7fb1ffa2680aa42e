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
from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW, HeadState, Level, Thresholds, level
from rl_exporter.snapshot import HeadReading

ABSENT = "-"
"""Shown for a value that was not measured. Never 0: a zero would look like a collapse."""


class Tone(StrEnum):
    """Meaning of a text's colour, where no level decides it. Each output maps it to its own colours."""

    PLAIN = "plain"
    DIM = "dim"
    STRONG = "strong"
    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class Cell(NamedTuple):
    """A text in the colour of ``level``, or of ``tone`` where there is no level.

    The level is decided where the head's own thresholds are known, so no output can decide otherwise.
    """

    text: str
    tone: Tone = Tone.PLAIN
    level: Level | None = None


class Bar(NamedTuple):
    """A bar, filled from 0 to 1, as wide as the output has room for. Coloured as a cell."""

    fill: float
    tone: Tone = Tone.PLAIN
    level: Level | None = None


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

DECIDED = SYMBOLS[HeadState.DETERMINISTIC]._replace(tone=Tone.DIM)
"""A deterministic head that decides by the state: it has learned what to do, so it is dim, too."""


def printable(text: str) -> str:
    """Replace control characters: a name must not steer the terminal or break a line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def printable_lines(text: str) -> list[str]:
    """The lines of a text, each without control characters."""
    return [printable(line) for line in text.splitlines()]


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


def level_letter(verdict: Level | None) -> str:
    """H, W or C, so that the level shows without colours too. Empty without a level."""
    return verdict[0].upper() if verdict else ""


def prefix(head: Head) -> str:
    """``1.3x`` for a head with an entropy coefficient above the base, else empty."""
    return f"{head.entropy_multiplier:g}x" if head.entropy_multiplier > 1 else ""


def judged(text: str, verdict: Level | None) -> Cell:
    """``text`` with the letter and in the colour of a level; dim without one."""
    return Cell(f"{text} {level_letter(verdict)}", level=verdict) if verdict else Cell(text, Tone.DIM)


def judged_ratio(value: float | None, thresholds: Thresholds) -> Cell:
    """An entropy ratio with the letter and in the colour of its level under the head's thresholds."""
    return judged(number(value), level(value, thresholds))


def nats(value: float | None) -> str:
    """An entropy with its unit."""
    return ABSENT if value is None else f"{number(value)} nats"


def reference_ratio(reading: HeadReading) -> float | None:
    """The entropy over what counts as 1 for the head: its maximum, or the reference that was declared."""
    return reading.effective if reading.relative else reading.normalized


def entropy(head: Head, reading: HeadReading) -> Cell:
    """Entropy in nats after the coefficient's prefix.

    Its share of the reference decides letter and colour, because nats of different heads do not compare.
    """
    if not reading.measured:
        return NOTHING
    verdict = level(reference_ratio(reading), reading.thresholds)
    return judged(f"{prefix(head)}{number(reading.entropy)}", verdict)


def entropy_bar(reading: HeadReading) -> Part:
    """The entropy's share of its reference as a bar, or an empty cell."""
    ratio = reference_ratio(reading)
    if ratio is None or not math.isfinite(ratio):
        return Cell("")
    return Bar(min(max(ratio, 0.0), 1.0), level=level(ratio, reading.thresholds))


def choice(reading: HeadReading) -> tuple[Part, ...]:
    """Choice entropy in the colour of its own level, and the share of steps that it was measured at.

    The thresholds of a head with another reference than its maximum are no thresholds of its choice entropy.
    """
    text = number(reading.choice_entropy)
    plain = reading.relative and reading.choice_entropy is not None
    judged_entropy = Cell(text) if plain else judged(text, level(reading.choice_entropy, reading.thresholds))
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
    if reading.state is not HeadState.DETERMINISTIC or (reading.effective is not None and reading.blind):
        symbol, word = SYMBOLS[reading.state], reading.state.value
    elif reading.effective is None:
        symbol, word = NO_CHOICE, "no choice"
    else:
        symbol, word = DECIDED, reading.state.value
    return symbol, Cell(word, symbol.tone)


def information(reading: HeadReading) -> Cell:
    """State information in nats."""
    return value(reading.state_information)


def leading_action(head: Head, reading: HeadReading) -> tuple[Part, ...]:
    """Name and share of the action that the head takes most."""
    leading = reading.leading_action
    if leading is None:
        return (NOTHING,)
    name = printable(head.action_name(leading))
    return Cell(name), Cell(share(reading.action_shares[leading]), Tone.DIM)


def control(reading: HeadReading) -> tuple[Part, ...]:
    """The coefficient that an entropy controller applied in the last update, and the ratio that it aims at.

    At its bound, that it can do no more; where it only observes, the coefficient that it would have applied.
    """
    applied, target = reading.entropy_coefficient_applied, reading.entropy_target
    if applied is None or target is None:
        return (NOTHING,)
    if reading.entropy_coefficient_proposed is not None:
        return Cell(f"would {reading.entropy_coefficient_proposed:.2f}", Tone.DIM), Cell(
            f"to {target:.2f}", Tone.DIM
        )
    if reading.controller_saturated:
        return Cell(f"{applied:.2f} at bound", Tone.WARNING), Cell(f"to {target:.2f}", Tone.DIM)
    return Cell(f"{applied:.2f}"), Cell(f"to {target:.2f}", Tone.DIM)


def limits(thresholds: Thresholds) -> Cell:
    """The thresholds of a head, warning before critical."""
    return Cell("/".join(f"{threshold:g}" if threshold else "off" for threshold in thresholds), Tone.DIM)


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


def sparkline(ratios: Iterable[float | None], thresholds: Thresholds) -> tuple[Cell, ...]:
    """One character for each ratio, in the colour of its level. A gap for an update without a ratio."""
    return tuple(
        Cell(" ")
        if ratio is None or not math.isfinite(ratio)
        else Cell(_SPARKS[min(max(int(ratio * 8), 0), 7)], level=level(ratio, thresholds))
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
