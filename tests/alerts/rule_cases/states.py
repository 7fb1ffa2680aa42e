"""Cases of starved, closed, diluted, falling, dead, exploding, non-finite and missing heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import le

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
from tests.alerts.rule_cases.collapse import COLLAPSED, LOW, PERIODS
from tests.alerts.rule_cases.simulation import (
    CLOSED,
    STARVED,
    UNMEASURED,
    Measured,
    Policy,
    Run,
    decides,
    normalized_only,
)

DEAD = Measured(normalized=0.05, choice=0.05, share=0.5, open=0.8, g=0.001)
EXPLODING = Measured(normalized=0.7, choice=0.8, share=0.5, open=0.8, g=50.0)
HEALTHY_HEAD = decides(0.8)


def _from(first: int, measured: Measured, last: int = 10**9) -> Policy:
    return lambda n: {"op": measured if first <= n <= last else HEALTHY_HEAD}


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

    late = max(first, int(700 / period))
    opens = replace(run, policy=lambda n: {"op": STARVED if n >= late else CLOSED})
    met = max(run.update_time(late + 2), run.update_time(late) + 600)
    checks = (ever(met - 1), firing(met + 90, alert("RLPolicyHeadStarved", "op")))
    yield Case(f"closed, then starved, one update in {period:g} s", (opens,), met + 120, checks)

    seldom = replace(run, policy=lambda n: {"op": STARVED if n % 3 else HEALTHY_HEAD})
    seconds = max(2400.0, 7 * period)
    yield Case(f"consulted every third update, one in {period:g} s", (seldom,), seconds, (ever(seconds),))


def _handover(period: float) -> Case:
    """A collapsed head that no operation consults any more: Starved takes over, without overlap or gap."""
    first = max(5, int(300 / period))
    collapsed = decides(0.1)
    run = Run(policy=lambda n: {"op": STARVED if n >= first else collapsed}, period=period)
    met = max(run.update_time(first + 2), run.update_time(first) + 600)
    run = replace(run, failed_scrapes=(15.0 * (met // 15 + 3),))
    name = f'ALERTS{{alertstate="firing", alertname=~"RLPolicyHeadCollapsed|RLPolicyHeadStarved", {OWN}}}'
    each = [Check(at, f"count({name})", (({}, 1.0),)) for at in range(int(met) - 60, int(met) + 105, 15)]
    checks = (firing(met - 1, COLLAPSED, LOW), firing(met + 90, alert("RLPolicyHeadStarved", "op")), *each)
    return Case(f"collapsed, then starved, one update in {period:g} s", (run,), met + 120, checks)


def _first_minutes() -> Iterator[Case]:
    run = Run(policy=_from(1, STARVED), period=30)
    starved = alert("RLPolicyHeadStarved", "op")
    yield Case("starved from the start", (run,), 900, (ever(630), firing(700, starved)))
    ended = replace(run, end=(800, "completed"))
    yield Case("starved, then completed", (ended,), 900, (firing(795, starved), firing(900)))
    unknown = replace(
        run, policy=lambda n: {"op": HEALTHY_HEAD if n < 5 else STARVED if n == 5 else UNMEASURED}
    )
    yield Case(
        "starved once, then measured no more", (unknown,), 1200, (is_firing(1200, "RLPolicyHeadStarved", 0),)
    )
    blind = replace(run, policy=lambda n: {"op": HEALTHY_HEAD if n < 5 else STARVED if n < 9 else UNMEASURED})
    yield Case("starved, then measured no more", (blind,), 1200, (is_firing(1200, "RLPolicyHeadStarved", 0),))
    slow = Run(policy=_from(1, STARVED), period=600, start=0)
    yield Case("two slow updates are not three", (slow,), 1795, (ever(1795),))


def _diluted() -> Iterator[Case]:
    diluted = Measured(normalized=0.2, choice=0.9, share=0.1, open=0.9)
    alerts = f'group by (head) (ALERTS{{alertstate="firing", alertname="RLPolicyHeadDiluted", {OWN}}})'
    once = ((({"head": "op"}), 1.0),)
    run = Run(policy=_from(1, diluted), period=30)
    yield Case("diluted", (run,), 900, (Check(900, alerts, once), ever(900)))
    at = Run(policy=_from(1, Measured(normalized=0.25, choice=0.3, share=0.1, open=0.9)), period=30)
    yield Case(
        "diluted at 0.25 exactly, low where it decides", (at,), 900, (Check(900, alerts, once), ever(900, LOW))
    )
    for name, measured in (
        ("both critical", Measured(normalized=0.2, choice=0.2, share=0.1, open=0.9)),
        ("normalized above critical", Measured(normalized=0.26, choice=0.9, share=0.1, open=0.9)),
        ("no choice", CLOSED),
        ("normalized only", normalized_only(0.1)),
    ):
        silent = Run(policy=_from(1, measured), period=30)
        yield Case(f"not diluted: {name}", (silent,), 900, (Check(900, alerts),))
    ended = replace(run, end=(600, "completed"))
    yield Case("diluted, then completed", (ended,), 900, (Check(590, alerts, once), Check(900, alerts)))
    brief = Run(policy=_from(5, diluted, 12), period=30)
    diluted_once = f'ALERTS{{alertstate="firing", alertname="RLPolicyHeadDiluted", {OWN}}}'
    ever_diluted = f"count(count_over_time({diluted_once}[900s]))"
    yield Case("diluted for four minutes", (brief,), 900, (Check(900, ever_diluted),))


def _falling() -> Iterator[Case]:
    name = "RLPolicyHeadEntropyFallingFast"
    fall = Run(policy=lambda n: {"op": decides(max(0.3, 0.95 - 0.02 * max(0, n - 15)))}, period=30)
    # It falls by 0.02 an update from update 15 on: at update 40 it is 0.45, and 0.25 ten updates ahead.
    firing_alert = f'ALERTS{{alertstate="firing", alertname="{name}", {OWN}}}'
    ever_fell = f"group by (alertname) (count_over_time({firing_alert}[1700s]))"
    once = Check(1700, ever_fell, (({"alertname": name}, 1.0),))
    yield Case("falling fast", (fall,), 1700, (is_firing(1080, name, 0), is_firing(1440, name), once))
    # Slope and ratio are sums of powers of two, so that 0.25 is met exactly, by update 11 alone.
    exact = Run(policy=lambda n: {"op": decides(0.40625 + max(0, 11 - n) / 64)}, period=120)
    checks = (is_firing(exact.update_time(11) - 1, name, 0), is_firing(exact.update_time(12) - 1, name))
    yield Case("falling to 0.25 exactly", (exact,), exact.update_time(12), checks)
    dip = Run(policy=lambda n: {"op": decides(0.9 - 0.06 * min(6, max(0, n - 60)))}, period=5)
    pending = f'count(count_over_time(ALERTS{{alertstate="pending", alertname="{name}", {OWN}}}[420s]))'
    silent = tuple(is_firing(t, name, 0) for t in range(300, 420, 15))
    yield Case("falling for half a minute", (dip,), 420, (Check(420, pending, (({}, 1.0),)), *silent))
    steep = Run(policy=lambda n: {"op": decides(0.95 - 0.08 * n)}, period=30, last_update=250)
    yield Case(
        "fewer than ten ratios are a guess", (steep,), 600, (is_firing(250, name, 0), is_firing(600, name, 0))
    )
    critical = Run(policy=lambda n: {"op": decides(max(0.01, 0.24 - 0.01 * n))}, period=30)
    yield Case(
        "already critical is not falling", (critical,), 900, (is_firing(500, name, 0), is_firing(900, name, 0))
    )
    ended = replace(fall, end=(1440, "interrupted"))
    yield Case(
        "falling fast, then interrupted", (ended,), 1500, (is_firing(1425, name), is_firing(1470, name, 0))
    )
    one = Run(policy=lambda n: {"op": decides(0.26 if n == 20 else 0.9)}, period=30)
    yield Case(
        "one low update is not falling fast",
        (one,),
        1200,
        (ever(1200), *(is_firing(t, name, 0) for t in (660, 720))),
    )


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

    hover = replace(run, policy=lambda n: {"op": measured if n % 6 else HEALTHY_HEAD})
    seconds = max(1800.0, 12 * period)
    once = opens_at_most_once_in_ten_minutes(seconds, name)
    yield Case(f"{name} hovering, one update in {period:g} s", (hover,), seconds, (once,))

    ended = replace(run, policy=_from(first, measured), end=(met + 120, "completed"))
    silent = is_firing(met + 180, name, 0)
    yield Case(
        f"{name}, then completed, {period:g} s", (ended,), met + 180, (is_firing(met + 115, name), silent)
    )


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
        run = Run(policy=_from(first, HEALTHY_HEAD._replace(nans=3), first), period=period)
        at = run.update_time(first)
        checks = (is_firing(at - 1, name, 0), is_firing(at + 60, name), is_firing(at + 430, name, 0))
        yield Case(f"NaN counted, one update in {period:g} s", (run,), at + 430, checks)
    ended = Run(policy=_from(20, HEALTHY_HEAD._replace(nans=3), 20), period=30, end=(660, "completed"))
    yield Case("NaN counted, then completed", (ended,), 720, (is_firing(655, name), is_firing(720, name, 0)))


def _slot(unmeasured: Callable[[int], bool]) -> Policy:
    """Head op is measured in every update, head slot is not measured in these."""
    return lambda n: {"op": HEALTHY_HEAD, "slot": UNMEASURED if unmeasured(n) else HEALTHY_HEAD}


def _never(_number: int) -> bool:
    return True


def _missing(period: float) -> Iterator[Case]:
    first = int(300 / period) + 2
    page = alert("RLPolicyHeadsMissing", "slot")
    run = Run(policy=_slot(_never), period=period, choices={"op": 6, "slot": 3})
    stops = replace(run, policy=_slot(partial(le, first)))
    for case, since, what in ((run, 1, "is never measured"), (stops, first, "is measured no more")):
        third = run.update_time(since + 2)
        checks = (ever(third - 1), firing(third + 120, page))
        yield Case(f"one of two heads {what}, {period:g} s", (case,), third + 180, checks)
    twice = replace(run, policy=_slot({first, first + 1}.__contains__))
    seconds = run.update_time(first + 2) + 300
    yield Case(f"unmeasured for two updates, {period:g} s", (twice,), seconds, (ever(seconds),))


def _missing_briefly() -> Iterator[Case]:
    page = alert("RLPolicyHeadsMissing", "op")
    ended = Run(policy=lambda _n: {"op": UNMEASURED}, period=30, end=(300, "completed"))
    yield Case("never measured, then completed", (ended,), 600, (firing(295, page), firing(600)))
    brief = Run(policy=lambda n: {"op": HEALTHY_HEAD if n not in range(400, 430) else UNMEASURED}, period=1)
    yield Case("unmeasured for half a minute", (brief,), 900, (ever(900),))


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for period in PERIODS:
        yield from _starved(period)
        yield _handover(period)
        yield from _missing(period)
    yield from _first_minutes()
    yield from _diluted()
    yield from _falling()
    yield from _states()
    yield from _nonfinite()
    yield from _missing_briefly()
