"""Cases of runs that end, cleanly or by a crash, with the target removed or left, and of targets that are down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from tests.alerts.rule_cases.case import Case, alert, ever, firing, is_firing, nothing_at_all
from tests.alerts.rule_cases.collapse import COLLAPSED, LOW, PERIODS
from tests.alerts.rule_cases.simulation import ALWAYS_COLLAPSED, ALWAYS_HEALTHY, Run

FAILED = alert("RLTrainingFailed")
VANISHED, DOWN = alert("RLTrainingVanished"), alert("RLTrainingTargetDown")
NEVER_UP = alert("RLTrainingTargetNeverUp", run_id="")


_AN_HOUR = {("completed", "entry left"), ("interrupted", "target removed")}
"""Ends that are checked until the longest range of the rules has passed. Only these, because they take long."""


def _clean(period: float, state: str, fate: str) -> Case:
    """A collapsed run ends cleanly: its alerts resolve, and nothing else starts."""
    end = max(1200.0, 4.5 * period)
    gone = inf if fate == "still served" else end + 60
    removed = end + 60 if fate == "target removed" else inf
    run = Run(policy=ALWAYS_COLLAPSED, period=period, end=(end, state), gone=gone, removed=removed)
    seconds = end + (4200 if period == 30 and (state, fate) in _AN_HOUR else 600)
    checks = [firing(end - 15, COLLAPSED, LOW), firing(end + 60), nothing_at_all(seconds, since=end + 60)]
    return Case(f"{state}, {fate}, one update in {period:g} s", (run,), seconds, tuple(checks))


def _crash(period: float, fate: str) -> Case:
    """A run is killed: one alert says so, and no other starts."""
    end = max(1200.0, 2.5 * period)
    removed = end + 20 if fate == "target removed" else inf
    run = Run(policy=ALWAYS_HEALTHY, period=period, gone=end, removed=removed)
    seconds = end + 1800
    page = VANISHED if fate == "target removed" else DOWN
    late = 240 if fate == "target removed" else 165
    checks = (ever(end + 105), firing(end + late, page), firing(seconds, page), ever(seconds, page))
    return Case(f"killed, {fate}, one update in {period:g} s", (run,), seconds, checks)


def _collapsed_crash() -> Case:
    """The alerts on the heads of a killed run resolve."""
    run = Run(policy=ALWAYS_COLLAPSED, period=30, gone=1200, removed=1220)
    return Case("killed while collapsed", (run,), 1800, (firing(1200, COLLAPSED, LOW), firing(1500, VANISHED)))


def _failed() -> Iterator[Case]:
    for fate, removed in (("target removed", 1260.0), ("entry left", inf)):
        run = Run(policy=ALWAYS_HEALTHY, period=30, end=(1200, "failed"), gone=1245, removed=removed)
        checks = (
            ever(1199),
            firing(1215, FAILED),
            firing(1230 + 14 * 60, FAILED),
            firing(1230 + 16 * 60),
            ever(3000, FAILED),
        )
        yield Case(f"failed, {fate}: pages for 15 minutes", (run,), 3000, checks)


def _taken_over() -> Iterator[Case]:
    """A run whose address a younger one takes is replaced, and silent; the younger one is judged by itself."""
    first = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200, removed=1215)
    for fate, removed in (("removed", 2460.0), ("left", inf)):
        second = Run(
            policy=ALWAYS_HEALTHY,
            period=30,
            run_id="b",
            start=1245,
            end=(2400, "completed"),
            gone=2445,
            removed=removed,
        )
        yield Case(
            f"a younger run on the same target, {fate}, ends cleanly", (first, second), 3000, (ever(3000),)
        )
    for fate, removed in (("removed", 1560.0), ("left", inf)):
        brief = replace(second, end=(1500, "completed"), gone=1545, removed=removed)
        yield Case(f"a younger run on the same target, {fate}, ends soon", (first, brief), 3000, (ever(3000),))
    second = Run(policy=ALWAYS_HEALTHY, period=30, run_id="b", start=1245, gone=2400)
    down = alert("RLTrainingTargetDown", run_id="b")
    yield Case("a younger run on the same target crashes", (first, second), 3000, (ever(3000, down),))
    again = replace(second, run_id="a", phase=5000, gone=1700)
    checks = (ever(1800), firing(1900, DOWN))
    yield Case("a restarted run crashes before its first update", (first, again), 1900, checks)


def _together() -> Iterator[Case]:
    """Two runs that one process serves at one address are both lost with it."""
    for fate, removed, name in (
        ("removed", 1210.0, "RLTrainingVanished"),
        ("left", inf, "RLTrainingTargetDown"),
    ):
        first = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200, removed=removed)
        second = replace(first, run_id="b", start=600)
        checks = (ever(1300), firing(1500, alert(name), alert(name, run_id="b")))
        yield Case(f"two runs of one process are killed, {fate}", (first, second), 1500, checks)


def _moved() -> Iterator[Case]:
    """A job that is rescheduled to another machine has not vanished."""
    first = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200, removed=1210)
    second = Run(policy=ALWAYS_HEALTHY, period=30, start=1230, instance="other:28008")
    yield Case("rescheduled elsewhere under the same name", (first, second), 1800, (ever(1800),))
    left = replace(first, removed=inf)
    yield Case("rescheduled elsewhere, entry left", (left, second), 1800, (ever(1800),))
    for after, ends in ((60, 1600), (600, 2100), (1500, 3600)):
        there = replace(second, start=1200 + after, end=(ends, "completed"), gone=ends + 45)
        seconds = ends + 1800
        open_ = (DOWN,) if after > 200 else ()
        checks = (ever(1200 + after, *open_), ever(seconds, since=ends - 15))
        name = f"continued elsewhere after {after} s and completed there, entries left"
        yield Case(name, (left, there), seconds, checks)


def _same_name() -> Case:
    """A run of the same name on another cluster does not hide the loss of this one."""
    first = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200, removed=1210, labels={"cluster": "east"})
    second = Run(policy=ALWAYS_HEALTHY, period=30, labels={"cluster": "west"}, instance="other:28008")
    checks = (firing(1500, VANISHED), is_firing(1500, "RLTrainingVanished"))
    return Case("vanished on one cluster, running on another", (first, second), 1500, checks, alone=True)


def _ended_before() -> Iterator[Case]:
    """A run of the same name that has ended elsewhere does not hide the loss of this one."""
    first = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200, removed=1210)
    second = Run(policy=ALWAYS_HEALTHY, period=30, instance="other:28008", end=(600, "completed"))
    yield Case("vanished, another of the name completed", (first, second), 1500, (firing(1500, VANISHED),))
    left = replace(first, removed=inf)
    yield Case("down, another of the name completed", (left, second), 1500, (firing(1500, DOWN),))


def _blip() -> Case:
    """A target that misses a few scrapes is not down."""
    failed = tuple(range(1200, 1305, 15))
    run = Run(policy=ALWAYS_HEALTHY, period=30, failed_scrapes=failed)
    return Case("down for 105 seconds", (run,), 2400, (ever(2400),))


def _down_for_long() -> Iterator[Case]:
    """A target that stays down keeps its alert; one that came back to report the end of its run has none."""
    run = Run(policy=ALWAYS_HEALTHY, period=30, gone=1200)
    yield Case("killed, entry left for two hours", (run,), 8400, (firing(8400, DOWN),))
    gone = replace(run, removed=1210)
    checks = (firing(1200 + 3600, VANISHED), firing(1200 + 4200))
    yield Case("killed, target removed for an hour and more", (gone,), 5400, checks)
    later = replace(run, removed=3000)
    both = (firing(2990, DOWN), firing(3240, VANISHED), firing(3900, VANISHED))
    yield Case("killed, target removed half an hour later", (later,), 3900, both)
    # Somebody removes at last what they know of.
    known = replace(run, removed=6600)
    yield Case(
        "killed, target removed an hour and a half later", (known,), 7500, (firing(6590, DOWN), firing(7500))
    )
    missed = tuple(range(1200, 1290, 15))
    ended = replace(run, failed_scrapes=missed, end=(1280, "completed"), gone=1305)
    yield Case("down, back to say that it completed, and down again", (ended,), 3000, (ever(3000),))
    lost = replace(run, removed=1210)
    resumed = replace(run, start=1290, end=(1300, "completed"), gone=1350, removed=1335)
    yield Case("gone, back to say that it completed, and gone again", (lost, resumed), 3000, (ever(3000),))


def _never_up() -> Iterator[Case]:
    """A target that has not answered once; what is left of a run that has ended is none, however old."""
    refused = Run(policy=ALWAYS_HEALTHY, period=30, start=600, gone=600, removed=9000)
    checks = (ever(1185), firing(1245, NEVER_UP), firing(8985, NEVER_UP), firing(9045))
    yield Case("a target never answers", (refused,), 9045, checks)
    late = replace(refused, removed=inf, gone=6000, failed_scrapes=tuple(range(600, 5400, 15)))
    checks = (firing(5385, NEVER_UP), firing(5430), firing(6300, DOWN), ever(6600, DOWN, since=5430))
    yield Case("a target never answers for an hour and more, and then does", (late,), 6600, checks)
    slow = replace(late, gone=inf, failed_scrapes=tuple(range(600, 1185, 15)))
    yield Case("a target never answers for nine minutes", (slow,), 1800, (ever(1800),))
    ended = Run(policy=ALWAYS_HEALTHY, period=30, end=(600, "completed"), gone=645)
    yield Case("completed, and never answers again for three hours", (ended,), 11400, (ever(11400),))
    # Prometheus was away for fifty minutes.
    away = {'up{instance="host:28008",job="rl-training"}': "1x40 0x280 _x200 0x300"}
    yield Case("completed, Prometheus away, and never answers again", (), 12000, (ever(12000),), away)
    other = {'up{instance="host:9100",job="node"}': "0x200"}
    yield Case("a target of another job never answers", (), 3000, (ever(3000),), other)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for period in PERIODS:
        for state in ("completed", "interrupted"):
            for fate in ("target removed", "entry left"):
                yield _clean(period, state, fate)
        for fate in ("target removed", "entry left"):
            yield _crash(period, fate)
    yield _clean(30, "completed", "still served")
    yield _collapsed_crash()
    yield from _failed()
    yield from _taken_over()
    yield from _together()
    yield from _moved()
    yield from _ended_before()
    yield _same_name()
    yield _blip()
    yield from _down_for_long()
    yield from _never_up()
