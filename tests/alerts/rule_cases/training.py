"""Cases of stalled runs, telemetry errors, several runs, recorded series, and the monitoring itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tests.alerts.rule_cases.case import Case, Check, Expected, alert, ever, firing, is_firing
from tests.alerts.rule_cases.collapse import CRITICAL
from tests.alerts.rule_cases.notation import compressed
from tests.alerts.rule_cases.simulation import (
    ALWAYS_COLLAPSED,
    ALWAYS_HEALTHY,
    Declared,
    Measured,
    Run,
    decides,
)

STALLED = alert("RLTrainingStalled")


def _stalled() -> Iterator[Case]:
    for period, last, wait in ((1, 300, 600), (30, 300, 600), (600, 1900, 3000)):
        run = Run(policy=ALWAYS_HEALTHY, period=period, phase=0, last_update=last)
        stopped = run.update_time(int((last - run.phase) / period))
        seconds = stopped + wait + 300
        checks = (ever(stopped + wait), firing(stopped + wait + 60, STALLED))
        yield Case(f"stalled, one update in {period} s", (run,), seconds, checks)
        resumed = replace(run, end=(stopped + wait + 120, "completed"))
        yield Case(f"stalled, then completed, {period} s", (resumed,), seconds, (firing(stopped + wait + 200),))
    first = Run(policy=ALWAYS_HEALTHY, period=600, phase=10_000)
    yield Case("no first update within ten minutes", (first,), 900, (ever(599), firing(630, STALLED)))
    slow = Run(policy=ALWAYS_HEALTHY, period=1200, phase=-600)
    yield Case("an update in twenty minutes is not stalled", (slow,), 4000, (ever(4000),))
    silent = replace(slow, durations=False)
    yield Case("slow updates without durations are not stalled", (silent,), 4000, (ever(4000),))
    stuck = replace(silent, last_update=1900)
    stopped = stuck.update_time(2)
    mean = stopped / 2
    checks = (ever(stopped + 5 * mean - 1), firing(stopped + 5 * mean + 60, STALLED))
    yield Case("stalled without durations", (stuck,), stopped + 5 * mean + 60, checks)


def _record_errors() -> Iterator[Case]:
    name = "RLExporterRecordErrors"
    run = Run(policy=ALWAYS_HEALTHY, period=30, record_errors=lambda now: float(now >= 600))
    yield Case("a telemetry error", (run,), 1500, (ever(599), firing(630, alert(name)), firing(1500)))
    ended = replace(run, end=(700, "completed"))
    yield Case("a telemetry error, then completed", (ended,), 800, (firing(690, alert(name)), firing(800)))


def _beside() -> Iterator[Case]:
    """Rules keep runs apart that have the same heads, or the same name on two clusters."""
    bad = Run(policy=ALWAYS_COLLAPSED, period=30, run_id="bad")
    good = Run(policy=ALWAYS_HEALTHY, period=30, run_id="good", instance="other:28008")
    page = alert("RLPolicyHeadCollapsed", "op", "bad"), alert("RLPolicyHeadEntropyLow", "op", "bad")
    yield Case("two runs with the same heads", (bad, good), 900, (ever(900, *page),))
    done = replace(bad, end=(300, "completed"))
    more = replace(good, policy=ALWAYS_COLLAPSED, start=400)
    page = alert("RLPolicyHeadCollapsed", "op", "good"), alert("RLPolicyHeadEntropyLow", "op", "good")
    yield Case("one completed, one running", (done, more), 900, (firing(900, *page),))
    east = replace(bad, run_id="a", labels={"cluster": "east"})
    west = replace(good, run_id="a", labels={"cluster": "west", "namespace": "research"})
    by_cluster = 'group by (cluster) (ALERTS{alertstate="firing", alertname="RLPolicyHeadCollapsed"})'
    checks = (Check(900, by_cluster, (({"cluster": "east"}, 1.0),)),)
    yield Case("the same name on two clusters", (east, west), 900, checks)


def _size() -> Iterator[Case]:
    """Number of recorded series of a run with eight heads in the worst case."""
    sizes = {"op": 6, "slot": 3, "blueprint": 13, "style": 4, "tempo": 3}
    sizes |= {"alpha_target": 3, "alpha_speed": 4, "alpha_curve": 5}
    dead = decides(0.05)._replace(g=0.0)
    count = 'count by (run_id) ({__name__=~".+:.+:.+", run_id!=""})'
    run = Run(policy=lambda _n: dict.fromkeys(sizes, dead), period=30, choices=sizes)
    yield Case("recorded series stay at 40", (run,), 900, (Check(900, count, (({"run_id": "a"}, 40.0),)),))
    healthy = replace(run, policy=lambda _n: dict.fromkeys(sizes, decides(0.7)))
    yield Case("a healthy run has 16", (healthy,), 900, (Check(900, count, (({"run_id": "a"}, 16.0),)),))


class Page(NamedTuple):
    """A whole alert as a person gets it; ``facts`` are its annotations beside text and links."""

    name: str
    summary: str
    description: str
    severity: str
    facts: Mapping[str, str]


_RUN_ID = 'drill & "co" ü'
_DECIDES = "DEPTHWISE at 97 % of its decisions, "
_BLIND = f"{_DECIDES}nearly the same whatever it sees, state information 0.012 nats (4 % of what is uncertain)"
_RETURN = "return 2.41, its best so far 3.56"


def _low_page(name: str, title: str, level: str, evidence: str, returns: str, threshold: str) -> Page:
    head = f"Head op of run {_RUN_ID}"
    return Page(
        name,
        f"{head} {title} (effective entropy 0.100, for 9m 14s)",
        f"{head} has had an effective entropy ratio at or below its {level} threshold of {threshold} for three "
        "updates or more and 9m 14s; the last one is 0.100 (0 deterministic, 1 uniform).",
        level,
        {"evidence": evidence, "return": returns, "level": level, "aggregate": _TOTAL},
    )


_TOTAL = "the total over all heads reads 6.98 nats"


def _collapsed_pages(evidence: str, returns: str, threshold: str = "0.25") -> tuple[Page, ...]:
    low = "0.5" if threshold == "0.25" else "0.4"
    return (
        _low_page("RLPolicyHeadCollapsed", "has collapsed", "critical", evidence, returns, threshold),
        _low_page("RLPolicyHeadEntropyLow", "has low entropy", "warning", evidence, returns, low),
    )


def _page(page: Page, run: Run) -> dict[str, Any]:
    labels = {"job": "rl-training", "instance": run.instance, **run.labels, "run_id": run.run_id, "head": "op"}
    annotations = {
        "summary": page.summary,
        "description": page.description,
        **page.facts,
        "runbook_url": f"http://127.0.0.1:28009/runbooks/{page.name}",
        "dashboard_url": "http://127.0.0.1:3000/d/rl-heads?var-cluster=east+1&var-run_id=drill+%26+%22co%22+%C3%BC&var-head=op",
    }
    expected = {"exp_labels": {**labels, "severity": page.severity}, "exp_annotations": annotations}
    return {"eval_time": "600s", "alertname": page.name, "exp_alerts": [expected]}


def _whole(name: str, measured: Measured, pages: Iterable[Page], **more: Any) -> Case:
    """Complete pages: names that need URL encoding, and the last ratio after updates without a choice step."""
    last = measured._replace(choice=None, share=0.0, open=0.6)
    run = Run(
        policy=lambda n: {"op": measured if n < 18 else last},
        period=30,
        run_id=_RUN_ID,
        labels={"cluster": "east 1"},
        **more,
    )
    quoted = _RUN_ID.replace('"', '\\"')
    total = (
        f'rl_policy_entropy_nats{{cluster="east 1",instance="host:28008",job="rl-training",run_id="{quoted}"}}'
    )
    return Case(name, (run,), 600, (), {total: "6.98x40"}, tuple(_page(page, run) for page in pages))


def _settled_page(evidence: str) -> Page:
    return Page(
        "RLPolicyHeadSettled",
        f"Head op of run {_RUN_ID} has settled (effective entropy 0.100, for 9m 14s)",
        f"Head op of run {_RUN_ID} has had an effective entropy ratio at or below its critical threshold of 0.25 for "
        "three updates or more and 9m 14s, and decides by what it sees: its exploration has ended. That is convergence "
        "if the return is where it should be, and premature otherwise.",
        "info",
        {"evidence": evidence, "return": _RETURN},
    )


def _annotations() -> Iterator[Case]:
    unknown = "not known whether its choices depend on the state"
    yield _whole("whole pages", decides(CRITICAL), _collapsed_pages(unknown, "the return is not known"))
    shares = (("NOOP", 0.004), ("DEPTHWISE", 0.9702), ("LORA", 0.0258))
    told = decides(CRITICAL, 0.012)._replace(shares=shares)

    def returns(number: int) -> float:
        return 3.56 if number == 5 else 2.41

    paid, unpaid = told._replace(margin_t=9.04), told._replace(margin_t=1.96)
    pages = _collapsed_pages(f"{_BLIND}; paid for it: its alternatives did worse, t = 9.0", _RETURN)
    yield _whole("whole pages with every fact", paid, pages, returns=returns)
    pages = _collapsed_pages(f"{_BLIND}; its alternatives did no worse, t = 2.0", _RETURN, "0.2")
    own = {"op": Declared(0.4, 0.2)}
    yield _whole("whole pages with other thresholds", unpaid, pages, returns=returns, declared=own)
    settled = told._replace(information=0.6, explained=0.934)
    page = _settled_page(f"{_DECIDES}state information 0.600 nats (93 % of what is uncertain)")
    yield _whole("a settled head as a whole", settled, (page,), returns=returns)


def _monitoring() -> Iterator[Case]:
    name = "RLMonitoringRuleFailures"
    ok, broken = [0.0] * 81, [0.0] * 20 + [float(i) for i in range(61)]
    once = [0.0] * 20 + [1.0] * 61
    group = '{instance="p",rule_group="/etc/rules/entropy.yml;rl-entropy"}'
    foreign = '{instance="p",rule_group="/etc/rules/other.yml;node"}'
    sources = (
        ("a rule", f"prometheus_rule_evaluation_failures_total{group}", broken, 1),
        ("a foreign rule", f"prometheus_rule_evaluation_failures_total{foreign}", broken, 0),
        ("a rule once", f"prometheus_rule_evaluation_failures_total{group}", once, 0),
        ("sending", 'prometheus_notifications_errors_total{instance="p",alertmanager="x"}', broken, 1),
        ("sending once", 'prometheus_notifications_errors_total{instance="p",alertmanager="x"}', once, 0),
        ("delivery", 'alertmanager_notifications_failed_total{instance="a",integration="webhook"}', once, 1),
        ("no Alertmanager", 'prometheus_notifications_alertmanagers_discovered{instance="p"}', ok, 1),
        ("an Alertmanager", 'prometheus_notifications_alertmanagers_discovered{instance="p"}', [1.0] * 81, 0),
        ("vmalert", 'vmalert_alerting_rules_error{group="rl-heads",alertname="x"}', [1.0] * 81, 1),
        ("vmalert recording", 'vmalert_recording_rules_error{group="rl-entropy",recording="x"}', [1.0] * 81, 1),
        ("vmalert sending", 'vmalert_alerts_send_errors_total{instance="v",addr="x"}', broken, 1),
    )
    for what, series, values, count in sources:
        ever_fired = f'count(count_over_time(ALERTS{{alertstate="firing", alertname="{name}"}}[1200s]))'
        found: Expected = (({}, float(count)),) if count else ()
        checks = (Check(1200, ever_fired, found), is_firing(1200, "RLMonitoringWatchdog"))
        yield Case(f"monitoring: {what}", (), 1200, checks, {series: compressed(values)})


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    yield from _stalled()
    yield from _record_errors()
    yield from _beside()
    yield from _size()
    yield from _annotations()
    yield from _monitoring()
