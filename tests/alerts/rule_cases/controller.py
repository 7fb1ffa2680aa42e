"""Cases of heads under an entropy controller: what is left to it, and what it could not hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from tests.alerts.rule_cases.case import (
    Case,
    Check,
    alert,
    ever,
    firing,
    is_firing,
    opens_at_most_once_in_ten_minutes,
)
from tests.alerts.rule_cases.collapse import COLLAPSED, CRITICAL, HEALTHY, LOW, PERIODS, WARNING
from tests.alerts.rule_cases.simulation import STARVED, Measured, Run, constant, decides
from tests.alerts.rule_cases.states import DEAD

SATURATED = alert("RLPolicyControllerSaturated", "op")
_DIED = alert("RLPolicyHeadDead", "op")
_UPDATES = 10
"""Updates at the bound after which a page comes."""

_Kind = TypeVar("_Kind")

_HELD = decides(HEALTHY)._replace(saturated=0)


def _at(period: float, kinds: tuple[_Kind, ...]) -> tuple[_Kind, ...]:
    """Every kind at one update in 30 s, and the first alone at other periods: simulated hours take seconds each."""
    return kinds if period == 30 else kinds[:1]


def _caught(period: float) -> Iterator[Case]:
    """A collapse that the controller ends, however long it takes, and what happens without it."""
    first = math.ceil(300 / period) + 1
    last = first + max(5, math.ceil(600 / period))
    for word, found in _at(
        period, (("collapsed", decides(CRITICAL)), ("dead", DEAD), ("low", decides(WARNING)))
    ):
        bad = found._replace(saturated=_UPDATES - 1)
        run = Run(policy=lambda n, bad=bad: {"op": bad if first <= n <= last else _HELD}, period=period)  # type: ignore[misc]
        failing = (run.update_time(first) // 15 * 15 + 240, run.update_time(last) // 15 * 15)
        run = replace(run, failed_scrapes=failing)
        seconds = run.update_time(last + 1) + 300
        yield Case(f"{word} under control, one update in {period:g} s", (run,), seconds, (ever(seconds),))


def _bound(period: float) -> Iterator[Case]:
    """The controller is at its bound from some update on, until the head comes back."""
    first = math.ceil(300 / period) + 1
    bound = first + max(3, math.ceil(120 / period))
    last = bound + max(_UPDATES + 2, math.ceil(600 / period))
    met = Run(policy=constant(_HELD), period=period).update_time(bound + _UPDATES - 1)
    kinds = (
        ("collapsed", decides(CRITICAL), (SATURATED, COLLAPSED, LOW)),
        ("dead", DEAD, (SATURATED, COLLAPSED, LOW, _DIED)),
        ("low", decides(WARNING), (LOW,)),
    )
    for word, bad, alerts in _at(period, kinds):
        run = Run(
            policy=lambda n, bad=bad: {  # type: ignore[misc]
                "op": bad._replace(saturated=max(0, n - bound + 1)) if first <= n <= last else _HELD
            },
            period=period,
        )
        good = run.update_time(last + 1)
        checks = (
            ever(met - 1),
            firing(met + 120, *alerts),
            firing(good, *alerts),
            firing(good + 300),
            is_firing(good + 300, "RLPolicyControllerSaturated", 0),
        )
        name = f"{word}, and its controller is at its bound, one update in {period:g} s"
        yield Case(name, (run,), good + 300, checks)


def _hovers(period: float) -> Case:
    """At the bound for ten updates, then off it for one, repeated."""
    held = decides(CRITICAL)
    run = Run(policy=lambda n: {"op": held._replace(saturated=n % 11)}, period=period)
    seconds = 1800.0
    checks = (
        is_firing(seconds, "RLPolicyControllerSaturated"),
        opens_at_most_once_in_ten_minutes(seconds, "RLPolicyControllerSaturated"),
        opens_at_most_once_in_ten_minutes(seconds, "RLPolicyHeadCollapsed"),
    )
    return Case(
        f"a controller at its bound for ten updates of eleven, one in {period:g} s", (run,), seconds, checks
    )


def _beside() -> Iterator[Case]:
    """A head under control does not silence another one."""
    held = decides(CRITICAL)._replace(saturated=0)
    two = Run(
        policy=lambda _n: {"op": held, "slot": decides(CRITICAL)}, period=30, choices={"op": 6, "slot": 3}
    )
    alerts = (alert("RLPolicyHeadCollapsed", "slot"), alert("RLPolicyHeadEntropyLow", "slot"))
    yield Case("one head under control beside one that is not", (two,), 900, (ever(900, *alerts),))
    other = Run(policy=constant(decides(CRITICAL)), period=30, run_id="b", instance="other:28008")
    one = replace(two, policy=constant(held), choices={"op": 6})
    of_b = tuple(alert(name, "op", "b") for name in ("RLPolicyHeadCollapsed", "RLPolicyHeadEntropyLow"))
    yield Case("a run under control beside one that is not", (one, other), 900, (ever(900, *of_b),))


def _silent() -> Iterator[Case]:
    """A controller at its bound whose head decides by the state, is not consulted, or whose run has ended."""
    bound = decides(CRITICAL, 0.6)._replace(saturated=50)
    settled = Run(policy=constant(bound), period=30)
    yield Case("settled, and its controller at its bound", (settled,), 900, (ever(900),))
    ended = Run(policy=constant(decides(CRITICAL)._replace(saturated=50)), period=30, end=(600, "completed"))
    checks: tuple[Check, ...] = (is_firing(595, "RLPolicyControllerSaturated"), firing(660))
    yield Case("its controller at its bound, then completed", (ended,), 660, checks)

    def policy(n: int) -> dict[str, Measured]:
        return {"op": (decides(CRITICAL) if n < 20 else STARVED)._replace(saturated=50)}

    starved = Run(policy=policy, period=30)
    met = starved.update_time(20) + 600
    starved = replace(starved, failed_scrapes=(15.0 * (met // 15 + 3),))
    silent = (
        is_firing(at, "RLPolicyControllerSaturated", 0) for at in range(int(met) + 45, int(met) + 120, 15)
    )
    checks = (is_firing(met - 1, "RLPolicyControllerSaturated"), *silent)
    yield Case("its controller at its bound, then starved", (starved,), met + 120, checks)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for period in PERIODS:
        yield from _caught(period)
        yield from _bound(period)
        if period < 600:
            yield _hovers(period)
    yield from _beside()
    yield from _silent()
