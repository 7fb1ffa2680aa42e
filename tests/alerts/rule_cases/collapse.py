"""Cases of collapse and low entropy: what pages, when it clears, and what never pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from tests.alerts.rule_cases.case import (
    OWN,
    Case,
    Check,
    alert,
    ever,
    firing,
    is_firing,
    opens_at_most_once_in_ten_minutes,
)
from tests.alerts.rule_cases.scrapes import series
from tests.alerts.rule_cases.simulation import Measured, Policy, Run, constant, decides, normalized_only

PERIODS = (1.0, 30.0, 600.0)
"""Update periods at which every promise is tested, in seconds."""

HEALTHY, WARNING, CRITICAL = 0.8, 0.4, 0.1
COLLAPSED, LOW = alert("RLPolicyHeadCollapsed", "op"), alert("RLPolicyHeadEntropyLow", "op")


def bad_from(first: int, last: int, bad: float) -> Policy:
    """Updates ``first`` to ``last`` at ratio ``bad``, all others healthy."""
    return lambda number: {"op": decides(bad if first <= number <= last else HEALTHY)}


def _when(run: Run, first: int, last: int) -> tuple[float, float, float]:
    """First bad update; three in a row that span a minute; first good update."""
    begun = run.update_time(first)
    return begun, max(run.update_time(first + 2), begun + 60), run.update_time(last + 1)


def _promises(period: float, phase: float, bad: float) -> Case:
    """Silent before, fires within two minutes of meeting both conditions, clears within five minutes."""
    first = math.ceil(300 / period) + 1
    last = first + max(2, math.ceil(300 / period))
    run = Run(policy=bad_from(first, last, bad), period=period, phase=phase)
    begun, met, good = _when(run, first, last)
    seconds = good + 900
    alerts = (COLLAPSED, LOW) if bad <= 0.25 else (LOW,)
    checks = (
        ever(met - 1),
        firing(met + 120, *alerts),
        firing(good, *alerts),
        firing(good + 300),
        ever(seconds, since=good + 300),
        ever(seconds, *alerts),
    )
    name = f"one update in {period:g} s, phase {phase:g} s: ratio {bad} from {begun:g} s to {good:g} s"
    return Case(name, (run,), seconds, checks)


def _one_bad(period: float, length: int, bad: float = CRITICAL) -> Case:
    first = math.ceil(300 / period) + 1
    run = Run(policy=bad_from(first, first + length - 1, bad), period=period)
    seconds = run.update_time(first + length) + 1200
    word = "bad" if bad == CRITICAL else "low"
    return Case(f"{length} {word} updates, one in {period:g} s, never page", (run,), seconds, (ever(seconds),))


def _hover(period: float, bad: float, names: tuple[str, ...]) -> Case:
    """Five bad updates and a good one, repeated."""
    run = Run(policy=lambda n: {"op": decides(HEALTHY if n % 6 == 0 else bad)}, period=period)
    seconds = max(1800.0, 12 * period)
    checks = [opens_at_most_once_in_ten_minutes(seconds, name) for name in names]
    if period == 1:
        checks.append(ever(seconds))
    if period == 30:
        checks += [is_firing(seconds, name) for name in names]
    return Case(f"hovering at {bad}, one update in {period:g} s, opens once", (run,), seconds, tuple(checks))


def _ratio(value: float, level: float | None) -> list[Check]:
    labels = {"head": "op"}
    ratios = ((labels, value),) if level is not None else ()
    levels = ((labels, level),) if level is not None else ()
    return [
        Check(900, f"max by (head) (head:rl_policy_effective_entropy:ratio{{{OWN}}})", ratios),
        Check(900, f"max by (head) (head:rl_policy_effective_entropy:level{{{OWN}}})", levels),
    ]


def _boundaries() -> Iterator[Case]:
    rows = (
        (0.25, 2, (COLLAPSED, LOW)),
        (0.25001, 1, (LOW,)),
        (0.22, 2, (COLLAPSED, LOW)),
        (0.5, 1, (LOW,)),
        (0.50001, 0, ()),
        (0.55, 0, ()),
    )
    for ratio, level, alerts in rows:
        for kind, name in ((decides, "choice"), (normalized_only, "normalized-only")):
            run = Run(policy=constant(kind(ratio)), period=30)
            yield Case(
                f"{name} entropy at {ratio} exactly", (run,), 900, (*_ratio(ratio, level), ever(900, *alerts))
            )


def _never() -> Iterator[Case]:
    nan = float("nan")
    broken = Measured(normalized=nan, choice=nan, share=0.5, open=0.8)
    for name, measured in (("choice", broken), ("normalized-only", normalized_only(nan))):
        run = Run(policy=constant(measured), period=30)
        yield Case(f"{name} entropy NaN has no level", (run,), 900, (*_ratio(nan, None), ever(900)))
    run = Run(policy=constant(decides(0.1)), period=30, phase=10_000)
    nothing = Check(540, f'count({{__name__=~"head:.+", {OWN}}})')
    yield Case("before the first update there is no verdict", (run,), 540, (nothing, ever(540)))


def _absent(period: float) -> Case:
    """The head has a choice step only in every third update, and is collapsed in all of those."""
    idle = Measured(normalized=0.7, share=0.0, open=0.5)
    run = Run(policy=lambda n: {"op": decides(CRITICAL) if n % 3 == 0 else idle}, period=period)
    met = max(run.update_time(9), run.update_time(3) + 60)
    seconds = met + 1200
    checks = (ever(met - 1), firing(met + 120, COLLAPSED, LOW), is_firing(seconds, "RLPolicyHeadStarved", 0))
    return Case(f"ratio absent in two of three updates, one in {period:g} s", (run,), seconds, checks)


def _between_scrapes() -> Case:
    """No scrape sees an update with a choice step. The alert must fire and keep its hysteresis all the same."""
    idle = Measured(normalized=0.7, share=0.0, open=0.5)
    last = 120

    def policy(n: int) -> Mapping[str, Measured]:
        return {"op": idle if n % 3 else decides(CRITICAL if n < last else 0.8)}

    run = Run(policy=policy, period=5)
    recovered = run.update_time(last)
    checks = (firing(recovered + 200, COLLAPSED, LOW), firing(recovered + 330))
    return Case("decides between scrapes only, then recovers", (run,), recovered + 360, checks)


def _scrape_fails() -> Case:
    """One or two failed scrapes neither resolve the alert nor open it again."""
    run = Run(policy=constant(decides(CRITICAL)), period=30, failed_scrapes=(900, 1200, 1215, 1500))
    checks = (opens_at_most_once_in_ten_minutes(2400, "RLPolicyHeadCollapsed"), ever(2400, COLLAPSED, LOW))
    return Case("failed scrapes neither resolve nor reopen", (run,), 2400, checks)


def _restart() -> Case:
    """A restart under the same labels does not join two short low phases to a minute of low entropy."""
    first = Run(policy=bad_from(0, -1, CRITICAL), period=1, gone=600)
    second = Run(policy=bad_from(1, 40, CRITICAL), period=1, start=630)
    both = series(first, second, seconds=1500)
    return Case("a restart under the same labels, 40 s low, is silent", (), 1500, (ever(1500),), both)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for period in PERIODS:
        for bad in (CRITICAL, WARNING):
            yield _promises(period, 1, bad)
        yield _one_bad(period, 1)
        yield _one_bad(period, 2)
        yield _hover(period, CRITICAL, ("RLPolicyHeadCollapsed", "RLPolicyHeadEntropyLow"))
        yield _hover(period, WARNING, ("RLPolicyHeadEntropyLow",))
        yield _absent(period)
    yield _promises(30, 14, CRITICAL)
    yield _promises(600, 14, CRITICAL)
    yield _one_bad(1, 45)
    yield _one_bad(1, 45, WARNING)
    yield _hover(75, CRITICAL, ("RLPolicyHeadCollapsed",))
    yield from _boundaries()
    yield from _never()
    yield _between_scrapes()
    yield _scrape_fails()
    yield _restart()
