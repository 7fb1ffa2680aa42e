"""What a person sees while a run trains: a live table on a terminal, plain lines elsewhere.

Every number is a cell of the exporter's view, so the table, the lines and the panel write it the same way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rl_exporter.heads import Head
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import HeadReading, SanctumSnapshot
from rl_exporter.view import cells
from rl_exporter.view.cells import NOTHING, Bar, Cell, Part, Tone, printable, printable_lines
from rl_exporter.view.layout import bar_cells, shortened, text_width
from rl_exporter.view.rich_text import styled_cells
from rl_exporter.view.verdict import Status, decided, entropy_status, verdict_level, weakest
from rl_training.algorithm.episodes import Drawing

_WIDTHS = {"head": 4, "nats": 11, "normalized": 10, "": 4, "choice": 7, "share": 5, "level": 8}
"""Least width of each column, wide enough for ordinary numbers: the bar must not move from update to update."""

_LONGEST_BAR = 20
_PADDING = 3
"""Two blanks and a border beside the text of each column."""

_LEFT_OUT_FIRST = ("", "normalized", "share", "level")
"""What a narrow terminal does without: nats and choice keep the letters that say what most people look for."""


class Display:
    """Shows every update. A handler that must run after the aggregator, whose ``snapshot`` it reads."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot], console: Console, *, quiet: bool) -> None:
        self._snapshot = snapshot
        self._console = console
        self._quiet = quiet
        self._started = time.monotonic()
        # A resumed run counts on from the steps of the process before it.
        self._steps_before = snapshot().environment_steps
        self._first: SanctumSnapshot | None = None
        self._lowest: dict[str, float] = {}
        self._live: Live | None = None
        self._drawing: Drawing | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(Text("waiting for the first update"), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Show the update that the aggregator has just stored."""
        del payload
        snapshot = self._snapshot()
        self._remember(snapshot)
        if self._live is not None:
            self._live.update(self._table(snapshot), refresh=True)
        elif not self._quiet:
            self._console.print(Text(self._line(snapshot)), soft_wrap=True)

    def _remember(self, snapshot: SanctumSnapshot) -> None:
        if self._first is None and snapshot.tamiyo.entropy is not None:
            self._first = snapshot
        for name, reading in snapshot.tamiyo.readings.items():
            if reading.effective is not None and math.isfinite(reading.effective):
                self._lowest[name] = min(reading.effective, self._lowest.get(name, 1.0))

    def summary(self) -> Table:
        """First, lowest and last effective ratio of every head."""
        table = Table("head", "first", "lowest", "last", "level", title="effective entropy ratio")
        for name, reading in self._snapshot().tamiyo.readings.items():
            first = self._first.tamiyo.readings[name].effective if self._first else None
            ratios = (first, self._lowest.get(name), reading.effective)
            judged = (cells.judged_ratio(ratio, reading.thresholds) for ratio in ratios)
            row = (_name(name, reading), *judged, _level(reading))
            table.add_row(*(styled_cells([cell]) for cell in row))
        return table

    def remember_drawing(self, drawing: Drawing | None) -> None:
        """Show this at the end: what the best episode led to, where environments draw it."""
        self._drawing = drawing

    def drawing(self) -> Text:
        """What the best episode of this process led to; empty where no environment draws anything."""
        if self._drawing is None:
            return Text("", end="")
        title = f"best episode, return {cells.number(self._drawing.episode_return)}"
        return Text("\n".join([title, *printable_lines(self._drawing.text)]))

    def _headline(self, snapshot: SanctumSnapshot) -> str:
        steps = snapshot.environment_steps - self._steps_before
        steps_per_second = steps / max(time.monotonic() - self._started, 1e-9)
        return (
            f"{printable(snapshot.run.run_id)}  update {snapshot.tamiyo.updates}  "
            f"{steps_per_second:.0f} steps/s  return {cells.number(snapshot.episode_return)}"
        )

    def _line(self, snapshot: SanctumSnapshot) -> str:
        heads = (
            f"{printable(name)} {cells.judged_ratio(reading.effective, reading.thresholds).text}"
            for name, reading in snapshot.tamiyo.readings.items()
        )
        return f"{self._headline(snapshot)}  {'  '.join(heads)}  {self._verdict(snapshot)}".rstrip()

    def _table(self, snapshot: SanctumSnapshot) -> Table:
        # As Text, because rich reads a string as markup, and a run's name may hold brackets.
        title = Text(self._headline(snapshot), "table.title")
        caption = Text(self._verdict(snapshot), "table.caption")
        table = Table(title=title, caption=caption, title_justify="left")
        rows = [_head_row(head, snapshot.tamiyo.readings[head.name]) for head in snapshot.tamiyo.heads]
        widths = _column_widths(rows, self._console.width)
        for column in widths:
            table.add_column(column, justify="left" if column in {"head", "", "level"} else "right")
        for row in rows:
            table.add_row(*(_cell_text(row[column], width) for column, width in widths.items()))
        return table

    def _verdict(self, snapshot: SanctumSnapshot) -> str:
        low, entropy = weakest(snapshot), snapshot.tamiyo.entropy
        if low is None or entropy is None or self._first is None:
            return ""
        name, ratio, reading = printable(low[0]), low[1], snapshot.tamiyo.readings[low[0]]
        start = cells.share(entropy / (self._first.tamiyo.entropy or 1.0))
        total = f"{cells.nats(entropy)}, {start} of its start"
        if entropy_status(reading) is Status.CRITICAL:
            return f"{name.upper()} HAS COLLAPSED ({cells.number(ratio)}) while the total still reads {total}"
        settled = ", but it decides by the state" if decided(reading) else ""
        return f"total {total}; weakest head: {name} {cells.number(ratio)}{settled}"


def _head_row(head: Head, reading: HeadReading) -> dict[str, Part]:
    """The panel's cells of one head, by the title of their column."""
    choice, *share = cells.choice(reading)
    return {
        "head": _name(head.name, reading),
        "nats": cells.entropy(head, reading),
        "normalized": _normalized(reading),
        "": cells.entropy_bar(reading),
        "choice": choice,
        "share": share[0] if share else NOTHING,
        "level": _level(reading),
    }


def _name(name: str, reading: HeadReading) -> Cell:
    return Cell(printable(name), Tone.STRONG, verdict_level(reading))


def _normalized(reading: HeadReading) -> Cell:
    """The share of the maximum; without a level for a head whose thresholds are of another reference."""
    if reading.relative:
        return cells.value(reading.normalized)
    return cells.judged_ratio(reading.normalized, reading.thresholds)


def _level(reading: HeadReading) -> Cell:
    """The level as a word in its colour; where it is no failure, a word without one."""
    if reading.level is None:
        return NOTHING
    if decided(reading):
        return Cell("settled" if reading.settled else "settling")
    return Cell(reading.level.value, level=reading.level)


def _column_widths(rows: Sequence[dict[str, Part]], room: int) -> dict[str, int]:
    """Widths of the columns that fit into ``room``, in order. The bar takes what the others leave."""
    widths = {
        column: max(least, *(_text_width(row[column]) for row in rows)) for column, least in _WIDTHS.items()
    }
    for column in _LEFT_OUT_FIRST:
        if _table_width(widths) > room:
            del widths[column]
    spare = room - _table_width(widths)
    if "" in widths:
        widths[""] = min(widths[""] + spare, _LONGEST_BAR)
    elif spare < 0:
        widths["head"] = max(widths["head"] + spare, 1)
    return widths


def _table_width(widths: dict[str, int]) -> int:
    return sum(widths.values()) + _PADDING * len(widths) + 1


def _text_width(part: Part) -> int:
    return text_width(part.text) if isinstance(part, Cell) else 0


def _cell_text(part: Part, width: int) -> Text:
    # Cut here: where rich cuts, a bar loses its proportion and a number its last digits.
    parts = (
        bar_cells(part, width) if isinstance(part, Bar) else [part._replace(text=shortened(part.text, width))]
    )
    return styled_cells(parts)
