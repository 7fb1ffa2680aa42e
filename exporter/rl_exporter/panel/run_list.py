"""A run as a row of the run list."""

from __future__ import annotations

from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.view import cells
from rl_exporter.view.cells import ABSENT, NOTHING, Cell, Tone, printable
from rl_exporter.view.layout import shortened
from rl_exporter.view.run_view import RUN_STATES
from rl_exporter.view.verdict import Status, decided, weakest

COLUMNS = ("Status", "Run", "State", "Update", "Weakest head", "Heads", "Address")

_SHOWN_HEADS = 16
_NAME_WIDTH = 28
_TONES = {
    Status.HEALTHY: Tone.HEALTHY,
    Status.WARNING: Tone.WARNING,
    Status.CRITICAL: Tone.CRITICAL,
    Status.NO_DATA: Tone.DIM,
}

Row = tuple[tuple[Cell, ...], ...]


def run_row(run: ObservedRun) -> Row:
    """The cells of a run, one tuple for each of ``COLUMNS``."""
    status = Cell(run.status.name.lower().replace("_", " "), _TONES[run.status])
    notice = run.notice()
    address = Cell(_short_address(printable(run.source.name)), Tone.DIM)
    snapshot = run.snapshot
    if snapshot is None:
        why = Cell(notice.word if notice else ABSENT, Tone.WARNING)
        return (status,), (NOTHING,), (why,), (NOTHING,), (NOTHING,), (NOTHING,), (address,)
    state = RUN_STATES[snapshot.run_state]
    stale = () if notice is None else (Cell(" "), Cell(notice.word, notice.tone))
    return (
        (status,),
        (Cell(shortened(printable(snapshot.run.run_id), _NAME_WIDTH), Tone.STRONG),),
        (state, *stale),
        (Cell(str(snapshot.tamiyo.updates)),),
        _weakest_head(snapshot),
        _symbols(run),
        (address,),
    )


def _weakest_head(snapshot: SanctumSnapshot) -> tuple[Cell, ...]:
    """Name and ratio in the colour of the ratio's level, and a word where a low ratio is no failure."""
    low = weakest(snapshot)
    if low is None:
        return (NOTHING,)
    name, ratio = low
    reading = snapshot.tamiyo.readings[name]
    text = f"{shortened(printable(name), _NAME_WIDTH)} {cells.number(ratio)}"
    return cells.judged(text, reading.level), *((Cell(" settled"),) if decided(reading) else ())


def _short_address(address: str) -> str:
    """Drop the scheme and the path that nearly every address has: the column is narrow."""
    return address.removeprefix("http://").removesuffix("/metrics")


def _symbols(run: ObservedRun) -> tuple[Cell, ...]:
    readings = list(run.snapshot.tamiyo.readings.values()) if run.snapshot else []
    symbols = tuple(cells.state(reading)[0] for reading in readings[:_SHOWN_HEADS])
    more = len(readings) - len(symbols)
    return (*symbols, Cell(f" +{more}", Tone.DIM)) if more else symbols
