"""Cases of the verdict: blind or deciding by the state, thresholds and references that the run declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.alerts.rule_cases.case import (
    OWN,
    Case,
    Check,
    ever,
    firing,
    is_firing,
    nothing_at_all,
    opens_at_most_once_in_ten_minutes,
)
from tests.alerts.rule_cases.collapse import COLLAPSED, CRITICAL, HEALTHY, LOW, PERIODS, WARNING
from tests.alerts.rule_cases.simulation import STARVED, Declared, Measured, Policy, Run, constant, decides
from tests.alerts.rule_cases.states import DEAD

SIGHTED, BLIND = 0.6, 0.01
"""State information in nats of a head that decides by the state, and of one that takes no notice of it."""

HEALTHY_HEAD = decides(HEALTHY, SIGHTED)
SETTLED, RISING = "RLPolicyHeadSettled", "RLPolicyHeadEntropyRising"
FALLING, DILUTED = "RLPolicyHeadEntropyFallingFast", "RLPolicyHeadDiluted"


def _phase(period: float, measured: Measured) -> tuple[Run, float, float]:
    """A run that measures this for a while; when three updates and a minute are met; first good update."""
    first = math.ceil(300 / period) + 1
    last = first + max(2, math.ceil(300 / period))
    run = Run(policy=lambda n: {"op": measured if first <= n <= last else HEALTHY_HEAD}, period=period)
    return run, max(run.update_time(first + 2), run.update_time(first) + 60), run.update_time(last + 1)


def _blind(period: float) -> Iterator[Case]:
    just = decides(CRITICAL, 0.0199)._replace(explained=1.0)
    hardly = decides(CRITICAL, 0.24)._replace(explained=0.0999)
    kinds = {
        "blind": decides(CRITICAL, BLIND),
        "just blind": just,
        "hardly looking at the state": hardly,
        "of unknown sight": decides(CRITICAL),
    }
    for word, measured in kinds.items():
        run, met, good = _phase(period, measured)
        checks = (ever(met - 1), firing(met + 120, COLLAPSED, LOW), firing(good + 300))
        yield Case(f"collapsed and {word}, one update in {period:g} s", (run,), good + 300, checks)


def _sighted(period: float) -> Iterator[Case]:
    run, met, good = _phase(period, decides(CRITICAL, SIGHTED))
    seconds = good + 600
    checks: tuple[Check, ...] = (
        is_firing(met - 1, SETTLED, 0),
        is_firing(met + 120, SETTLED),
        is_firing(good, SETTLED),
        is_firing(good + 300, SETTLED, 0),
        opens_at_most_once_in_ten_minutes(seconds, SETTLED),
        ever(seconds),
    )
    yield Case(f"settled, one update in {period:g} s", (run,), seconds, checks)
    ended = replace(
        run, policy=constant(decides(CRITICAL, 0.02)._replace(explained=0.1)), end=(met + 120, "completed")
    )
    checks_after_end = (is_firing(met + 115, SETTLED), is_firing(met + 180, SETTLED, 0), ever(met + 180))
    yield Case(f"settled, then completed, one update in {period:g} s", (ended,), met + 180, checks_after_end)
    low, _, good = _phase(period, decides(WARNING, SIGHTED))
    yield Case(
        f"low, but deciding by the state, one update in {period:g} s",
        (low,),
        good + 300,
        (nothing_at_all(good + 300, since=0),),
    )
    dead = DEAD._replace(information=SIGHTED)
    run, _, good = _phase(period, dead)
    yield Case(
        f"without gradient, but settled, one update in {period:g} s", (run,), good + 60, (ever(good + 60),)
    )


def _settled_then_starved() -> Case:
    """Nothing is said of a head that no operation has consulted for ten minutes, failed scrape or not."""
    run = Run(policy=lambda n: {"op": decides(CRITICAL, SIGHTED) if n < 10 else STARVED}, period=30)
    met = run.update_time(10) + 600
    run = replace(run, failed_scrapes=(15.0 * (met // 15 + 3),))
    silent = tuple(is_firing(at, SETTLED, 0) for at in range(int(met) + 45, int(met) + 120, 15))
    checks: tuple[Check, ...] = (is_firing(met - 1, SETTLED), *silent)
    return Case("settled, then starved", (run,), met + 120, checks)


def _flips(period: float) -> Iterator[Case]:
    """Blind for two updates of three; then once for three in a row."""

    def policy(blind_from: int) -> Policy:
        return lambda n: {
            "op": decides(CRITICAL, BLIND if n % 3 or blind_from <= n < blind_from + long else SIGHTED)
        }

    long = max(3, math.ceil(90 / period))
    run = Run(policy=policy(10**9), period=period)
    seconds = max(1200.0, 9 * period)
    checks = (ever(seconds), is_firing(seconds, SETTLED, 0))
    yield Case(f"blind for two updates of three, one in {period:g} s", (run,), seconds, checks)
    first = 3 * math.ceil(300 / period / 3)
    page = replace(run, policy=policy(first))
    met = max(page.update_time(first), page.update_time(first - 2) + 60)
    checks = (ever(met - 1), firing(met + 120, COLLAPSED, LOW))
    yield Case(
        f"blind for two updates of three, then for more, one in {period:g} s", (page,), met + 120, checks
    )


def _level(ratio: float, level: float) -> Check:
    return Check(
        900, f"max by (head) (head:rl_policy_effective_entropy:level{{{OWN}}})", (({"head": "op"}, level),)
    )


def _thresholds() -> Iterator[Case]:
    own, off = Declared(0.4, 0.2), Declared(0.0, 0.0)
    rows: tuple[tuple[Declared, float, float, tuple[Mapping[str, str], ...]], ...] = (
        (own, 0.45, 0, ()),
        (own, 0.40001, 0, ()),
        (own, 0.4, 1, (LOW,)),
        (own, 0.3, 1, (LOW,)),
        (own, 0.20001, 1, (LOW,)),
        (own, 0.2, 2, (COLLAPSED, LOW)),
        (off, 0.0, 0, ()),
        (off, 0.05, 0, ()),
        (Declared(0.5, 0.0), 0.05, 1, (LOW,)),
        (Declared(0.0, 0.25), 0.05, 2, (COLLAPSED,)),
        (Declared(0.3, 0.3), 0.3, 2, (COLLAPSED, LOW)),
    )
    for declared, ratio, level, alerts in rows:
        run = Run(policy=constant(decides(ratio, BLIND)), period=30, declared={"op": declared})
        name = f"thresholds {declared.warning} and {declared.critical}, ratio {ratio}"
        yield Case(name, (run,), 900, (_level(ratio, level), ever(900, *alerts)))
    two = Run(
        policy=lambda _n: {"op": decides(0.3, BLIND), "slot": decides(0.45, BLIND)},
        period=30,
        choices={"op": 6, "slot": 3},
        declared={"slot": own},
    )
    yield Case("thresholds of one head leave the other alone", (two,), 900, (ever(900, LOW),))


def _nats(nats: float, information: float | None = BLIND, choices: int = 6) -> Measured:
    """A head that reports its entropy and its choice share, of which the reference makes the ratio."""
    return Measured(
        normalized=nats / math.log(choices), choice=0.9, share=0.5, open=0.8, information=information
    )


def _value(at: float, ratio: float | None) -> Check:
    found = () if ratio is None else (({"head": "op"}, ratio),)
    return Check(at, f"round(max by (head) (head:rl_policy_effective_entropy:ratio{{{OWN}}}), 0.001)", found)


def _references() -> Iterator[Case]:
    number = Run(policy=constant(_nats(0.3)), period=30, declared={"op": Declared(reference=1.2)})
    checks = (_value(900, 0.25), _level(0.25, 2), ever(900, COLLAPSED, LOW))
    yield Case("a quarter of a reference in nats", (number,), 900, checks)
    broken = replace(number, policy=constant(Measured(normalized=math.nan)))
    yield Case("NaN has no level, with a reference", (broken,), 900, (_value(900, None), ever(900)))
    steady = replace(number, policy=constant(_nats(1.1)))
    yield Case("near a reference in nats", (steady,), 900, (_value(900, 0.917), nothing_at_all(900, since=0)))
    no_choice = replace(number, policy=constant(_nats(0.3)._replace(choice=None, share=0.0, open=0.0)))
    yield Case("no choice step, with a reference", (no_choice,), 900, (_value(900, None), ever(900)))
    plain = replace(number, policy=constant(Measured(normalized=0.3 / math.log(6))))
    yield Case(
        "without choice shares, with a reference", (plain,), 900, (_value(900, 0.25), ever(900, COLLAPSED, LOW))
    )
    tokens = {"op": 151_936}
    start = Declared(0.25, 0.1, "start")
    for end, alerts in ((0.6, ()), (0.12, (LOW,)), (0.06, (COLLAPSED, LOW))):
        run = Run(
            policy=lambda n, end=end: {"op": _nats(0.6 if n <= 20 else end, choices=151_936)},  # type: ignore[misc]
            period=30,
            choices=tokens,
            declared={"op": start},
        )
        begun = _value(run.update_time(9) + 15, None), _value(run.update_time(10) + 45, 1.0)
        yield Case(
            f"a head of a vocabulary from 0.6 to {end} nats", (run,), 1200, (*begun, ever(1200, *alerts))
        )
    young = Run(
        policy=constant(_nats(0.01, choices=151_936)), period=600, choices=tokens, declared={"op": start}
    )
    yield Case("its start is not known yet", (young,), 3000, (_value(3000, None), ever(3000)))


def _rising() -> Iterator[Case]:
    for period in PERIODS:
        first = math.ceil(300 / period) + 12
        run = Run(
            policy=lambda n, first=first: {"op": _nats(0.5 if n < first else 1.2)},  # type: ignore[misc]
            period=period,
            declared={"op": Declared(0.25, 0.1, "start")},
        )
        at = run.update_time(first)
        checks = (is_firing(at - 1, RISING, 0), is_firing(at + 150, RISING), ever(at + 150))
        yield Case(f"twice the start and more, one update in {period:g} s", (run,), at + 150, checks)
    twice = Run(policy=constant(_nats(1.0)), period=30, declared={"op": Declared(reference=0.5)})
    yield Case("twice the reference exactly", (twice,), 900, (nothing_at_all(900, since=0),))
    ended = replace(twice, policy=constant(_nats(1.2)), end=(600, "completed"))
    yield Case("rising, then completed", (ended,), 660, (is_firing(595, RISING), is_firing(660, RISING, 0)))
    brief = replace(twice, policy=lambda n: {"op": _nats(1.2 if n == 15 else 0.5)})
    yield Case("one update of more than twice the reference", (brief,), 900, (nothing_at_all(900, since=0),))


def _informed() -> Iterator[Case]:
    """What falls or is diluted by the thresholds of the run, and falls because it learns."""

    def falls(information: float | None) -> Policy:
        return lambda n: {"op": decides(max(0.3, 0.95 - 0.03 * max(0, n - 15)), information)}

    for information, count in ((None, 1), (BLIND, 1), (0.02, 1), (0.25, 0), (SIGHTED, 0)):
        run = Run(policy=falls(information), period=30)
        at = run.update_time(33)
        yield Case(
            f"falling with state information {information}", (run,), at, (is_firing(at, FALLING, count),)
        )
    steady = replace(run, policy=falls(None))
    for critical, count in ((0.1, 0), (0.0, 0), (0.3, 1)):
        own = replace(steady, declared={"op": Declared(0.5, critical)})
        at = own.update_time(31)
        yield Case(f"falling towards a threshold of {critical}", (own,), at, (is_firing(at, FALLING, count),))
    constant_head = Run(policy=constant(DEAD), period=30, declared={"op": Declared(0.0, 0.0)})
    yield Case("a head that may be constant does not die", (constant_head,), 900, (ever(900),))
    steep = replace(run, policy=lambda n: {"op": decides(max(0.05, 0.95 - 0.05 * max(0, n - 15)))})
    for critical, count in ((0.0, 0), (0.1, 1)):  # the slope leads below 0, where a threshold of 0 would lie
        own = replace(steep, declared={"op": Declared(0.5, critical)})
        at = own.update_time(31)
        yield Case(f"falling below 0, critical at {critical}", (own,), at, (is_firing(at, FALLING, count),))
    diluted = Measured(normalized=0.2, choice=0.9, share=0.1, open=0.9)
    for critical, count in ((0.1, 0), (0.3, 1)):
        thin = Run(policy=constant(diluted), period=30, declared={"op": Declared(0.5, critical)})
        yield Case(f"diluted under a threshold of {critical}", (thin,), 900, (is_firing(900, DILUTED, count),))
    none = Run(
        policy=constant(diluted._replace(normalized=0.0)), period=30, declared={"op": Declared(0.5, 0.0)}
    )
    yield Case("diluted under a threshold that is off", (none,), 900, (is_firing(900, DILUTED, 0),))


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for period in PERIODS:
        yield from _blind(period)
        yield from _sighted(period)
        yield from _flips(period)
    yield _settled_then_starved()
    yield from _thresholds()
    yield from _references()
    yield from _rising()
    yield from _informed()
