"""A snapshot as the panel shows it: title, facts, findings, and rows of cells for each head.

Terminal, text and HTML draw the same ``RunView``, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

from rl_exporter.heads import Head, Heads
from rl_exporter.health import Thresholds
from rl_exporter.snapshot import RunState, SanctumSnapshot
from rl_exporter.view import cells
from rl_exporter.view.cells import ABSENT, Bar, Cell, Part, Tone, printable
from rl_exporter.view.environment import Fact, environment_facts
from rl_exporter.view.findings import Finding, findings
from rl_exporter.view.history import History
from rl_exporter.view.verdict import Status, run_status, verdict_level

RUN_STATES = {
    RunState.RUNNING: Cell("▶ running", Tone.HEALTHY),
    RunState.COMPLETED: Cell("■ completed", Tone.PLAIN),
    RunState.INTERRUPTED: Cell("■ interrupted", Tone.WARNING),
    RunState.FAILED: Cell("✖ failed", Tone.CRITICAL),
}

NO_HISTORY = History()

# Without content they would only make the panel longer.
_NOT_SHOWN_WHEN_EMPTY = {"Info", "Action", "Control", "Limits", "NaN/Inf", "Age", "History"}


@dataclass(frozen=True, slots=True)
class HeadColumn:
    """One head: its name in the colour of the verdict, and its rows by label."""

    name: Cell
    rows: dict[str, tuple[Part, ...]]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it is shown. ``labels`` name the rows in order. ``heads`` is empty before the first update.

    ``thresholds`` are those of every head; None where heads have different ones.
    """

    status: Status
    title: tuple[Cell, ...]
    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]
    labels: tuple[str, ...]
    heads: tuple[HeadColumn, ...]
    thresholds: Thresholds | None
    environment: tuple[tuple[Fact, ...], ...] = ()
    """What the environments report, in lines."""


def run_view(snapshot: SanctumSnapshot, now: float, history: History = NO_HISTORY) -> RunView:
    """Make the view of ``snapshot`` at Unix time ``now``."""
    tamiyo = snapshot.tamiyo
    common = common_thresholds(tamiyo.heads)
    if not tamiyo.updates:
        return RunView(Status.NO_DATA, _title(snapshot, now), (), (_waiting(snapshot),), (), (), common)
    columns = tuple(
        HeadColumn(
            Cell(printable(head.name), Tone.STRONG, verdict_level(tamiyo.readings[head.name])),
            _rows(snapshot, head, history, differ=common is None),
        )
        for head in tamiyo.heads
    )
    labels = tuple(
        label
        for label in columns[0].rows
        if label not in _NOT_SHOWN_WHEN_EMPTY or any(_has_content(column.rows[label]) for column in columns)
    )
    facts, found, environment = _facts(snapshot), findings(snapshot), environment_facts(snapshot)
    return RunView(
        run_status(snapshot), _title(snapshot, now), facts, found, labels, columns, common, environment
    )


def common_thresholds(heads: Heads) -> Thresholds | None:
    """The thresholds that all heads have; None where they differ."""
    first, *others = {head.thresholds for head in heads}
    return None if others else first


def _has_content(parts: tuple[Part, ...]) -> bool:
    return any(isinstance(part, Bar) or part.text not in {"", ABSENT} for part in parts)


def _rows(
    snapshot: SanctumSnapshot, head: Head, history: History, *, differ: bool
) -> dict[str, tuple[Part, ...]]:
    """The rows of a head. ``differ``: whether another head has other thresholds."""
    name, reading = head.name, snapshot.tamiyo.readings[head.name]
    return {
        "Entr": (cells.entropy(head, reading),),
        "": (cells.entropy_bar(reading),),
        "Choice": cells.choice(reading),
        "Info": (cells.information(reading),),
        "Action": cells.leading_action(head, reading),
        "Grad": cells.gradient(reading, history.trend(name)),
        "Ratio": (cells.value(reading.importance_ratio_max),),
        "State": cells.state(reading),
        "Control": cells.control(reading),
        "Limits": (cells.limits(reading.thresholds) if differ else cells.NOTHING,),
        "NaN/Inf": (cells.nonfinite(reading),),
        "Age": (cells.updates_old(snapshot.tamiyo.unmeasured_updates(name)),),
        "History": cells.sparkline(history.ratios(name), reading.thresholds),
    }


def _title(snapshot: SanctumSnapshot, now: float) -> tuple[Cell, ...]:
    title = [Cell(printable(snapshot.run.run_id), Tone.STRONG), RUN_STATES[snapshot.run_state]]
    if snapshot.tamiyo.updates:
        title.append(Cell(f"update {snapshot.tamiyo.updates}", Tone.STRONG))
        if snapshot.last_update_timestamp is not None:
            title.append(Cell(f"{cells.age(now - snapshot.last_update_timestamp)} ago", Tone.DIM))
    return tuple(title)


def _waiting(snapshot: SanctumSnapshot) -> Finding:
    heads = ", ".join(printable(head.name) for head in snapshot.tamiyo.heads)
    running = snapshot.run_state is RunState.RUNNING
    text = "for the first update" if running else "the run ended before its first update"
    return Finding("waiting" if running else "no data", Tone.WARNING, "", f"{text}; heads: {heads}")


def _facts(snapshot: SanctumSnapshot) -> tuple[Fact, ...]:
    tamiyo = snapshot.tamiyo
    facts = (
        ("total", cells.nats(tamiyo.entropy)),
        ("KL", cells.number(tamiyo.kl_divergence)),
        ("clip", cells.share(tamiyo.clipped_share)),
        ("return", cells.number(snapshot.episode_return)),
        # Most loops do not report it; a dash would only take room.
        *([("length", cells.number(snapshot.episode_length))] if snapshot.episode_length is not None else []),
        ("episodes", f"{snapshot.episodes:,}"),
        ("steps", f"{snapshot.environment_steps:,}"),
    )
    return tuple((label, Cell(text, Tone.DIM if text == ABSENT else Tone.PLAIN)) for label, text in facts)
