"""What the environments of a run report, for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rl_exporter.environment_metrics import EnvironmentNumber
from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.view import cells
from rl_exporter.view.cells import Cell, Tone, printable

_SHOWN_LABELS = 6
"""Of a name with labels, the largest values are shown; a map or a module each would push the heads away."""

Fact = tuple[str, Cell]


def environment_facts(snapshot: SanctumSnapshot) -> tuple[tuple[Fact, ...], ...]:
    """Lines of names and values: first the numbers without labels, then one line for each name with labels."""
    plain: list[Fact] = []
    labelled: list[tuple[Fact, ...]] = []
    for name, group in groupby(snapshot.environment_metrics, lambda number: number.series.name):
        numbers = list(group)
        if numbers[0].series.labels:
            labelled.append(tuple(_largest(name, numbers)))
        else:
            plain.append((name, _value(numbers[0])))
    return (tuple(plain), *labelled) if plain else tuple(labelled)


def _largest(name: str, numbers: list[EnvironmentNumber]) -> Iterator[Fact]:
    ranked = sorted(numbers, key=lambda number: -number.value)
    for place, number in enumerate(ranked[:_SHOWN_LABELS]):
        labels = " ".join(printable(value) for _, value in number.series.labels)
        yield f"{name} {labels}" if not place else labels, _value(number)
    if len(ranked) > _SHOWN_LABELS:
        yield f"and {len(ranked) - _SHOWN_LABELS} more", Cell("", Tone.DIM)


def _value(number: EnvironmentNumber) -> Cell:
    """A ratio as a percentage; other numbers from a thousand on without decimals."""
    if number.series.name.endswith("_ratio"):
        return Cell(f"{number.value:.1%}")
    return Cell(f"{number.value:,.0f}" if 1000 <= abs(number.value) < 1e12 else cells.number(number.value))
