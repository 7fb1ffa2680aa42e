"""Starved, closed, diluted, falling, dead, exploding, non-finite and missing heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rule_tests.case import Case, Check, alert, ever, firing, is_firing, opens_at_most_once_in_ten_minutes
from rule_tests.collapse import COLLAPSED, LOW, PERIODS
from rule_tests.simulation import CLOSED, STARVED, UNMEASURED, Measured, Policy, Run, decides, plain

DEAD = Measured(normalized=0.05, choice=0.05, share=0.5, open=0.8, g=0.001)
EXPLODING = Measured(normalized=0.7, choice=0.8, share=0.5, open=0.8, g=50.0)
HEALTHY = decides(0.8)


def _from(first: int, measured: Measured, last: int = 10**9) -> Policy:
    return lambda n: {"op": measured if first <= n <= last else HEALTHY}


def _starved(period: float) -> Iterator[Case]:
    first = 3 if period == 600 else 11
    run = Run(policy=_from(first, STARVED), period=period)
    met = max(run.update_time(first + 2), run.update_time(first) + 600)
    checks = (ever(met - 1), firing(met + 90, alert("RLPolicyHeadStarved", "op")))
    yield Case(f"starved, one update in {period:g} s", (run,), met + 300, checks)

    last = first + (2 if period == 600 else int(500 / period))
    brief = replace(run, policy=_from(first, STARVED, last - 1))
    seconds = run.update_time(last) + 900
    yield Case(f"starved for too short a time, one update in {period:g} s", (brief,), seconds, (ever(seconds),))

    closed = replace(run, policy=_from(1, CLOSED))
    seconds = max(1800.0, 4 * period)
    yield Case(f"a head without choice, one update in {period:g} s", (closed,), seconds, (ever(seconds),))

    opens = replace(run, policy=lambda n: {"op": STARVED if n >= first else CLOSED})
    checks = (ever(met - 1), firing(met + 90, alert("RLPolicyHeadStarved", "op")))
    yield Case(f"closed, then starved, one update in {period:g} s", (opens,), met + 120, checks)

    seldom = replace(run, policy=lambda n: {"op": STARVED if n % 3 else HEALTHY})
    seconds = max(2400.0, 7 * period)
    yield Case(f"consulted every third update, one in {period:g} s", (seldom,), seconds, (ever(seconds),))


def _handover(period: float) -> Case:
    """A collapsed head that nothing consults any more: Starved takes over, never both, never neither."""
    first = max(5, int(300 / period))
    collapsed = decides(0.1)
    run = Run(policy=lambda n: {"op": STARVED if n >= first else collapsed}, period=period)
    met = max(run.update_time(first + 2), run.update_time(first) + 600)
    name = 'ALERTS{alertstate="firing", alertname=~"RLPolicyHeadCollapsed|RLPolicyHeadStarved"}'
    each = [Check(at, f"count({name})", (({}, 1.0),)) for at in range(int(met) - 60, int(met) + 105, 15)]
    checks = (firing(met - 1, COLLAPSED, LOW), firing(met + 90, alert("RLPolicyHeadStarved", "op")), *each)
    return Case(f"collapsed, then starved, one update in {period:g} s", (run,), met + 120, checks)


def _first_minutes() -> Iterator[Case]:
    run = Run(policy=_from(1, STARVED), period=30)
    starved = alert("RLPolicyHeadStarved", "op")
    yield Case("starved from the start", (run,), 900, (ever(630), firing(700, starved)))
    slow = Run(policy=_from(1, STARVED), period=600, start=0)
    yield Case("two slow updates are not three", (slow,), 1795, (ever(1795),))


def _diluted() -> Iterator[Case]:
    diluted = Measured(normalized=0.2, choice=0.9, share=0.1, open=0.9)
    alerts = 'group by (head) (ALERTS{alertstate="firing", alertname="RLPolicyHeadDiluted"})'
    once = ((({"head": "op"}), 1.0),)
    run = Run(policy=_from(1, diluted), period=30)
    yield Case("diluted", (run,), 900, (Check(900, alerts, once), ever(900)))
    at = Run(policy=_from(1, Measured(normalized=0.25, choice=0.3, share=0.1, open=0.9)), period=30)
    yield Case("diluted at 0.25 exactly, low where it decides", (at,), 900, (Check(900, alerts, once), ever(900, LOW)))
    for name, measured in (
        ("both critical", Measured(normalized=0.2, choice=0.2, share=0.1, open=0.9)),
        ("normalized above critical", Measured(normalized=0.26, choice=0.9, share=0.1, open=0.9)),
        ("no choice", CLOSED),
        ("normalized only", plain(0.1)),
    ):
        silent = Run(policy=_from(1, measured), period=30)
        yield Case(f"not diluted: {name}", (silent,), 900, (Check(900, alerts),))
    ended = replace(run, end=(600, "completed"))
    yield Case("diluted, then completed", (ended,), 900, (Check(590, alerts, once), Check(900, alerts)))
    brief = Run(policy=_from(5, diluted, 12), period=30)
    ever_diluted = 'count(count_over_time(ALERTS{alertstate="firing", alertname="RLPolicyHeadDiluted"}[900s]))'
    yield Case("diluted for four minutes", (brief,), 900, (Check(900, ever_diluted),))


def _falling() -> Iterator[Case]:
    name = "RLPolicyHeadEntropyFallingFast"
    fall = Run(policy=lambda n: {"op": decides(max(0.3, 0.95 - 0.02 * max(0, n - 15)))}, period=30)
    # From update 15 on it falls by 0.02 an update: at update 40 the ratio is 0.45, and 0.25 ten updates ahead.
    ever_fell = Check(1700, f'group by (alertname) (count_over_time(ALERTS{{alertstate="firing", alertname="{name}"}}[1700s]))',
                      ((({"alertname": name}), 1.0),))  # fmt: skip
    yield Case("falling fast", (fall,), 1700, (is_firing(1080, name, 0), is_firing(1440, name), ever_fell))
    exact = Run(policy=lambda n: {"op": decides(0.5 - n / 64 + 40 / 64 if 40 <= n < 56 else 0.5)}, period=30)
    yield Case("not falling", (exact,), 1100, (is_firing(1100, name, 0),))
    steep = Run(policy=lambda n: {"op": decides(0.95 - 0.08 * n)}, period=30, last_update=250)
    yield Case("fewer than ten ratios are a guess", (steep,), 600, (is_firing(250, name, 0), is_firing(600, name, 0)))
    critical = Run(policy=lambda n: {"op": decides(max(0.01, 0.24 - 0.01 * n))}, period=30)
    yield Case("already critical is not falling", (critical,), 900, (is_firing(500, name, 0), is_firing(900, name, 0)))
    ended = replace(fall, end=(1440, "interrupted"))
    yield Case("falling fast, then interrupted", (ended,), 1500, (is_firing(1425, name), is_firing(1470, name, 0)))
    one = Run(policy=lambda n: {"op": decides(0.26 if n == 20 else 0.9)}, period=30)
    yield Case("one low update is not falling fast", (one,), 1200, (ever(1200), *(is_firing(t, name, 0) for t in (660, 720))))


def _state(period: float, measured: Measured, name: str) -> Iterator[Case]:
    first = int(300 / period) + 2
    last = first + max(2, int(240 / period))
    run = Run(policy=_from(first, measured, last), period=period)
    met = max(run.update_time(first + 2), run.update_time(first) + 60)
    good = run.update_time(last + 1)
    checks = (is_firing(met - 1, name, 0), is_firing(met + 120, name), is_firing(good + 300, name, 0))
    yield Case(f"{name}, one update in {period:g} s", (run,), good + 600, checks)

    for length in (1, 2):
        brief = replace(run, policy=_from(first, measured, first + length - 1))
        seconds = run.update_time(first + length) + 900
        yield Case(f"{length} updates of {period:g} s: {name} is silent", (brief,), seconds, (ever(seconds),))

    hover = replace(run, policy=lambda n: {"op": measured if n % 6 else HEALTHY})
    seconds = max(1800.0, 14 * period)
    once = opens_at_most_once_in_ten_minutes(seconds, name)
    yield Case(f"{name} hovering, one update in {period:g} s", (hover,), seconds, (once,))

    ended = replace(run, policy=_from(first, measured), end=(met + 120, "completed"))
    silent = is_firing(met + 180, name, 0)
    yield Case(f"{name}, then completed, {period:g} s", (ended,), met + 180, (is_firing(met + 115, name), silent))


def _states() -> Iterator[Case]:
    for period in PERIODS:
        yield from _state(period, DEAD, "RLPolicyHeadDead")
        yield from _state(period, EXPLODING, "RLPolicyHeadGradientsExploding")
    for measured, name in ((DEAD, "Dead"), (EXPLODING, "exploding")):
        run = Run(policy=_from(100, measured, 144), period=1)
        yield Case(f"{name} for 45 s", (run,), 600, (ever(600),))


def _nonfinite() -> Iterator[Case]:
    name = "RLPolicyHeadNonFinite"
    for period in PERIODS:
        first = int(300 / period) + 2
        run = Run(policy=_from(first, HEALTHY._replace(nans=3), first), period=period)
        at = run.update_time(first)
        checks = (is_firing(at - 1, name, 0), is_firing(at + 60, name), is_firing(at + 400, name, 0))
        yield Case(f"NaN counted, one update in {period:g} s", (run,), at + 400, checks)
    ended = Run(policy=_from(20, HEALTHY._replace(nans=3), 20), period=30, end=(660, "completed"))
    yield Case("NaN counted, then completed", (ended,), 720, (is_firing(655, name), is_firing(720, name, 0)))


def _missing() -> Iterator[Case]:
    name = "RLPolicyHeadsMissing"
    sizes = {"op": 6, "slot": 3}
    for period in PERIODS:
        run = Run(policy=lambda _n: {"op": HEALTHY, "slot": UNMEASURED}, period=period, choices=sizes)
        third = run.update_time(3)
        checks = (ever(third - 1), firing(third + 120, alert(name, "slot")))
        yield Case(f"one of two heads is never measured, {period:g} s", (run,), third + 180, checks)
        first = int(300 / period) + 2
        stops = replace(run, policy=lambda n, first=first: {"op": HEALTHY, "slot": HEALTHY if n < first else UNMEASURED})
        third = run.update_time(first + 2)
        checks = (ever(third - 1), firing(third + 120, alert(name, "slot")))
        yield Case(f"one of two heads is measured no more, {period:g} s", (stops,), third + 180, checks)
        once = replace(run, policy=lambda n, first=first: {"op": HEALTHY, "slot": UNMEASURED if n in {first, first + 1} else HEALTHY})
        seconds = run.update_time(first + 2) + 300
        yield Case(f"unmeasured for two updates, {period:g} s", (once,), seconds, (ever(seconds),))
    ended = Run(policy=lambda _n: {"op": UNMEASURED}, period=30, end=(300, "completed"))
    yield Case("never measured, then completed", (ended,), 600, (firing(295, alert(name, "op")), firing(600)))
    brief = Run(policy=lambda n: {"op": HEALTHY if n not in range(400, 430) else UNMEASURED}, period=1)
    yield Case("unmeasured for half a minute", (brief,), 900, (ever(900),))


def cases() -> Iterator[Case]:
    """All of them."""
    for period in PERIODS:
        yield from _starved(period)
        yield _handover(period)
    yield from _first_minutes()
    yield from _diluted()
    yield from _falling()
    yield from _states()
    yield from _nonfinite()
    yield from _missing()
