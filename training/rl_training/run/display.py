"""What a person sees while a run trains: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rl_exporter.health import Level, level
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import HeadReading, SanctumSnapshot

_STYLES = {Level.HEALTHY: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red"}
_BAR = 20
_OTHER_COLUMNS = 60
"""Width of all columns but the head's name and the bar, borders included."""


class Display:
    """Shows every update; a handler like any other. ``snapshot`` is asked after the aggregator took it."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot], console: Console, *, quiet: bool) -> None:
        self._snapshot = snapshot
        self._console = console
        self._quiet = quiet
        self._started = time.monotonic()
        self._first: SanctumSnapshot | None = None
        self._lowest: dict[str, float] = {}
        self._live: Live | None = None

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
        """Show the update that the aggregator has just taken over."""
        del payload
        snapshot = self._snapshot()
        if self._first is None and snapshot.tamiyo.entropy is not None:
            self._first = snapshot
        for name, reading in snapshot.tamiyo.readings.items():
            if reading.effective is not None:
                self._lowest[name] = min(reading.effective, self._lowest.get(name, 1.0))
        if self._live is not None:
            self._live.update(self._table(snapshot), refresh=True)
        elif not self._quiet:
            self._console.print(self._line(snapshot), highlight=False, soft_wrap=True)

    def summary(self) -> Table:
        """First, lowest and last effective ratio of every head."""
        last = self._snapshot().tamiyo
        table = Table("head", "first", "lowest", "last", "level", title="effective entropy ratio")
        for name, reading in last.readings.items():
            first = self._first.tamiyo.readings[name].effective if self._first else None
            lowest = self._lowest.get(name)
            numbers = [_ratio(value) for value in (first, lowest, reading.effective)]
            table.add_row(name, *numbers, _word(reading.level))
        return table

    def _headline(self, snapshot: SanctumSnapshot) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        episode_return = "-" if snapshot.episode_return is None else f"{snapshot.episode_return:.2f}"
        return (
            f"{snapshot.run.run_id}  update {snapshot.tamiyo.updates}  "
            f"{snapshot.environment_steps / seconds:.0f} steps/s  return {episode_return}"
        )

    def _line(self, snapshot: SanctumSnapshot) -> str:
        heads = (
            f"{name} {_ratio(r.effective)}{'' if r.level in {Level.HEALTHY, None} else '!' + r.level}"
            for name, r in snapshot.tamiyo.readings.items()
        )
        return f"{self._headline(snapshot)}  {'  '.join(heads)}  {self._verdict(snapshot)}".rstrip()

    def _table(self, snapshot: SanctumSnapshot) -> Table:
        table = Table(title=self._headline(snapshot), caption=self._verdict(snapshot), title_justify="left")
        for column in ("head", "nats", "normalized", "", "choice", "share", "level"):
            table.add_column(column, justify="left" if column in {"head", "", "level"} else "right")
        # A bar that rich had to cut would lie: it gets what the other columns leave.
        names = max(len(head.name) for head in snapshot.tamiyo.heads)
        bar = max(4, min(_BAR, self._console.width - names - _OTHER_COLUMNS))
        for head in snapshot.tamiyo.heads:
            prefix = f"{head.entropy_multiplier:g}x" if head.entropy_multiplier > 1 else ""
            table.add_row(head.name, *_cells(prefix, snapshot.tamiyo.readings[head.name], bar))
        return table

    def _verdict(self, snapshot: SanctumSnapshot) -> str:
        tamiyo = snapshot.tamiyo
        weakest = tamiyo.weakest()
        if weakest is None or tamiyo.entropy is None or self._first is None:
            return ""
        share = tamiyo.entropy / (self._first.tamiyo.entropy or 1.0)
        total = f"total {tamiyo.entropy:.3f} nats, {share:.0%} of its start"
        reading = tamiyo.readings[weakest]
        if reading.level is Level.CRITICAL:
            ratio = _ratio(reading.effective)
            return f"{weakest.upper()} HAS COLLAPSED ({ratio}) while the total still reads {total[6:]}"
        return f"{total}; weakest head: {weakest} {_ratio(reading.effective)}"


def _cells(prefix: str, reading: HeadReading, bar: int) -> list[str | Text]:
    if not reading.measured:
        return ["-", "-", "", "-", "-", "-"]
    style = _style(level(reading.normalized))
    filled = round((reading.normalized or 0.0) * bar)
    return [
        f"{prefix}{reading.entropy:.3f}",
        Text(_ratio(reading.normalized), style=style),
        Text("█" * filled + "░" * (bar - filled), style=style),
        Text(_ratio(reading.choice_entropy), style=_style(level(reading.choice_entropy))),
        "-" if reading.choice_share is None else f"{reading.choice_share:.0%}",
        _word(reading.level),
    ]


def _style(verdict: Level | None) -> str:
    return _STYLES[verdict] if verdict else "dim"


def _word(verdict: Level | None) -> Text:
    return Text(verdict.value, style=_STYLES[verdict]) if verdict else Text("-", style="dim")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
