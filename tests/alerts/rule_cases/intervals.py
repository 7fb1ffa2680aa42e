"""Cases of scrape intervals up to the longest supported one, two minutes, at which single scrapes fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from tests.alerts.rule_cases.case import Case, alert, ever, firing, without_a_gap
from tests.alerts.rule_cases.collapse import COLLAPSED, LOW
from tests.alerts.rule_cases.ends import DOWN, FAILED, VANISHED
from tests.alerts.rule_cases.simulation import (
    ALWAYS_COLLAPSED,
    ALWAYS_HEALTHY,
    STARVED,
    UNMEASURED,
    Policy,
    Run,
    constant,
    decides,
)

_STARVED = alert("RLPolicyHeadStarved", "op")

LONGEST = 120
"""The longest scrape interval that the rules support, in seconds."""


def _run(every: int, policy: Policy = ALWAYS_HEALTHY, period: float = 30) -> Run:
    """A run of whose scrapes every third one fails."""
    return Run(
        policy=policy,
        period=period,
        scrape_every=every,
        failed_scrapes=tuple(range(2 * every, 9000, 3 * every)),
    )


def _hold(every: int) -> Iterator[Case]:
    """What fires goes on firing over each failed scrape."""
    for name, policy, since in (
        ("RLPolicyHeadCollapsed", ALWAYS_COLLAPSED, 600),
        ("RLPolicyHeadEntropyLow", ALWAYS_COLLAPSED, 600),
        ("RLPolicyHeadSettled", constant(decides(0.1, 0.6)), 600),
        ("RLPolicyHeadDead", constant(decides(0.05)._replace(g=0.0)), 600),
        ("RLPolicyHeadGradientsExploding", constant(decides(0.8)._replace(g=6.0)), 600),
        ("RLPolicyHeadNonFinite", constant(decides(0.8)._replace(nans=3)), 600),
        ("RLPolicyHeadsMissing", constant(UNMEASURED), 600),
        ("RLPolicyHeadStarved", constant(STARVED), 1200),
    ):
        until = since + 1800
        run = _run(every, policy)
        yield Case(f"{name} at {every} s", (run,), until, (without_a_gap(name, since, until),))
    stuck = replace(_run(every), last_update=60)
    checks = (without_a_gap("RLTrainingStalled", 900, 2700),)
    yield Case(f"RLTrainingStalled at {every} s", (stuck,), 2700, checks)
    errors = replace(_run(every), record_errors=lambda now: float(now // 60))
    checks = (without_a_gap("RLExporterRecordErrors", 600, 2400),)
    yield Case(f"RLExporterRecordErrors at {every} s", (errors,), 2400, checks)


def _silent(every: int) -> Iterator[Case]:
    """A healthy run is silent, however slow; one that recovers, too, once its alerts have cleared."""
    for period in (1, 30, 600, 1200):
        run = replace(_run(every, period=period), phase=60 - period)
        yield Case(f"healthy at {every} s, one update in {period} s", (run,), 4800, (ever(4800),))
    starving = _run(every, lambda number: {"op": decides(0.1) if number < 20 else STARVED})
    checks = (ever(1140, COLLAPSED, LOW), ever(3000, COLLAPSED, LOW, _STARVED))
    yield Case(f"collapsed, then starved, at {every} s", (starving,), 3000, checks)
    recovers = _run(every, lambda number: {"op": decides(0.1 if number < 20 else 0.8)})
    checks = (firing(600, COLLAPSED, LOW), ever(3000, since=601 + every * 2 + 300))
    yield Case(f"collapsed, then healthy, at {every} s", (recovers,), 3000, checks)


def _ends(every: int) -> Iterator[Case]:
    """A run is scraped for the last time one interval after its end, or after two, where one scrape fails."""
    for missed in (False, True):
        for state in ("completed", "failed"):
            run = replace(
                _run(every), end=(_END, state), gone=_END + 2 * every + 5, removed=_END + 2 * every + 5
            )
            run = replace(run, failed_scrapes=(_after(_END, every),) if missed else ())
            pages = (FAILED,) if state == "failed" else ()
            silent = ever(_END - 1), ever(3000, *pages)
            yield Case(f"{state} at {every} s{', a scrape fails' * missed}", (run,), 3000, silent)
    for fate, removed, page in (("target removed", _END + 5, VANISHED), ("entry left", inf, DOWN)):
        lost = replace(_run(every), gone=_END, removed=removed)
        name = page["alertname"]
        late = _END + 3 * every + 240
        checks = (ever(_END + 120), without_a_gap(name, late, 3000), ever(3000, page))
        yield Case(f"killed at {every} s, {fate}", (lost,), 3000, checks)


_END = 1215.0
"""When runs end: between two scrapes at any interval."""


def _after(time: float, every: int) -> int:
    """The time of the first scrape after ``time``."""
    return (int(time) // every + 1) * every


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for every in (60, LONGEST):
        yield from _hold(every)
        yield from _silent(every)
        yield from _ends(every)
