"""What the help screen says."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW
from rl_exporter.panel.cells import Cell, Tone
from rl_exporter.panel.layout import Line, legend

KEYS = (
    ("q, Ctrl-C", "quit"),
    ("p", "pause: look no more, keep the picture; again goes on"),
    ("r", "look now instead of waiting"),
    ("s", "save the screen as an SVG picture in this directory"),
    ("l", "show or hide the legend"),
    ("Enter, Esc", "in a list of runs: open a run, and back"),
    ("arrows, PgUp, PgDn", "scroll"),
)

ROWS = (
    ("Entr", "entropy in nats over all steps, behind the factor of its coefficient where that is above 1; "
             "colour, letter and bar: its share of the maximum"),
    ("Choice", "entropy relative to what the mask allowed, over the steps at which the head decided; the "
               "share of such steps. The verdict on the head comes from it"),
    ("Grad", "gradient norm before clipping; an arrow against the mean of the last updates; a logarithmic bar: "
             f"empty at {VANISHING_BELOW:g} (vanishing), full at {EXPLODING_ABOVE:g} (exploding)"),
    ("Ratio", "largest probability ratio between the updated policy and the one that acted"),
    ("State", "one word from entropy and gradients, see the symbols"),
    ("NaN/Inf", "values that were not finite since the start, when there were any"),
    ("Age", "updates since the head was last measured, when it was not in the last one"),
    ("History", "effective ratio of the updates that were seen, 0 to 1"),
)  # fmt: skip


def help_lines(width: int) -> list[Line]:
    """The page in lines of at most ``width`` columns, 20 at least."""
    width = max(width, 20)
    lines = [*_section("Keys", KEYS, width), (), *_section("Rows", ROWS, width), ()]
    return [*lines, (Cell("Symbols, letters, colours", Tone.STRONG),), *legend(width)]


def _section(title: str, entries: Sequence[tuple[str, str]], width: int) -> Iterator[Line]:
    yield (Cell(title, Tone.STRONG),)
    indent = max(len(name) for name, _ in entries) + 2
    for name, text in entries:
        first, *more = textwrap.wrap(text, max(width - indent, 10))
        yield (Cell(name.ljust(indent), Tone.WARNING), Cell(first))
        for line in more:
            yield (Cell(" " * indent + line),)
