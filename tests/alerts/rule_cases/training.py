"""Cases of stalled runs, telemetry errors, several runs, recorded series, and the monitoring itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.alerts.rule_cases.case import OWN, Case, Check, Expected, alert, ever, firing
from tests.alerts.rule_cases.notation import compressed
from tests.alerts.rule_cases.simulation import ALWAYS_COLLAPSED, ALWAYS_HEALTHY, SCRAPE_SECONDS, Run, decides

STALLED = alert("RLTrainingStalled")


def _stalled() -> Iterator[Case]:
    for period, last, wait in ((1, 300, 600), (30, 300, 600), (600, 1900, 3000)):
        run = Run(policy=ALWAYS_HEALTHY, period=period, phase=0, last_update=last)
        stopped = run.update_time(int((last - run.phase) / period))
        seconds = stopped + wait + 300
        # The alert reads what the rule recorded one interval earlier; another judge reads the run itself.
        recorded = replace(ever(stopped + wait + SCRAPE_SECONDS), claim=None)
        checks: tuple[Check, ...] = (ever(stopped + wait), recorded, firing(stopped + wait + 60, STALLED))
        yield Case(f"stalled, one update in {period} s", (run,), seconds, checks)
        completed = replace(run, end=(stopped + wait + 120, "completed"))
        yield Case(
            f"stalled, then completed, {period} s", (completed,), seconds, (firing(stopped + wait + 200),)
        )
    first = Run(policy=ALWAYS_HEALTHY, period=600, phase=10_000)
    yield Case("no first update within ten minutes", (first,), 900, (ever(599), firing(630, STALLED)))
    slow = Run(policy=ALWAYS_HEALTHY, period=1200, phase=-600)
    yield Case("an update in twenty minutes is not stalled", (slow,), 4000, (ever(4000),))
    silent = replace(slow, durations=False)
    yield Case("slow updates without durations are not stalled", (silent,), 4000, (ever(4000),))
    resumed = replace(silent, resumed=200)
    yield Case("slow updates without durations after a resume are not stalled", (resumed,), 4000, (ever(4000),))
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
    collapsed = f'ALERTS{{alertstate="firing", alertname="RLPolicyHeadCollapsed", {OWN}}}'
    checks = (Check(900, f"group by (cluster) ({collapsed})", (({"cluster": "east"}, 1.0),)),)
    yield Case("the same name on two clusters", (east, west), 900, checks, alone=True)


def _size() -> Iterator[Case]:
    """Number of recorded series of a run with eight heads in the worst case."""
    sizes = {"op": 6, "slot": 3, "blueprint": 13, "style": 4, "tempo": 3}
    sizes |= {"alpha_target": 3, "alpha_speed": 4, "alpha_curve": 5}
    dead = decides(0.05)._replace(g=0.0)
    count = f'count by (run_id) ({{__name__=~".+:.+:.+", run_id!="", {OWN}}})'
    run = Run(policy=lambda _n: dict.fromkeys(sizes, dead), period=30, choices=sizes)
    yield Case("recorded series stay at 51", (run,), 900, (Check(900, count, (({"run_id": "a"}, 51.0),)),))
    healthy = replace(run, policy=lambda _n: dict.fromkeys(sizes, decides(0.7)))
    yield Case("a healthy run has 27", (healthy,), 900, (Check(900, count, (({"run_id": "a"}, 27.0),)),))


def _monitoring() -> Iterator[Case]:
    name = "RLMonitoringRuleFailures"
    # It is about no run, so it has no label of a case.
    watchdog = Check(1200, 'count(ALERTS{alertstate="firing", alertname="RLMonitoringWatchdog"})', (({}, 1.0),))
    ok, broken = [0.0] * 81, [0.0] * 20 + [float(i) for i in range(61)]
    once = [0.0] * 20 + [1.0] * 61
    delivery = 'alertmanager_notifications_failed_total{instance="a",integration="webhook"'
    evaluators = {
        'prometheus_rule_group_rules{instance="p",rule_group="/etc/rules/entropy.yml;rl-entropy"}': compressed(
            [4.0] * 81
        ),
        'vmalert_alerting_rules_error{instance="v",group="rl-heads",alertname="y"}': compressed(ok),
    }
    group = '{instance="p",rule_group="/etc/rules/entropy.yml;rl-entropy"}'
    foreign = '{instance="p",rule_group="/etc/rules/other.yml;node"}'
    sources = (
        ("a rule", f"prometheus_rule_evaluation_failures_total{group}", broken, 1),
        ("a foreign rule", f"prometheus_rule_evaluation_failures_total{foreign}", broken, 0),
        ("a rule once", f"prometheus_rule_evaluation_failures_total{group}", once, 0),
        ("missed evaluations", f"prometheus_rule_group_iterations_missed_total{group}", broken, 1),
        ("a missed evaluation", f"prometheus_rule_group_iterations_missed_total{group}", once, 0),
        ("a foreign group's", f"prometheus_rule_group_iterations_missed_total{foreign}", broken, 0),
        ("sending", 'prometheus_notifications_errors_total{instance="p",alertmanager="x"}', broken, 1),
        ("sending once", 'prometheus_notifications_errors_total{instance="p",alertmanager="x"}', once, 0),
        ("delivery", f"{delivery}}}", once, 1),
        (
            "another team's Slack",
            'alertmanager_notifications_failed_total{instance="a",integration="slack"}',
            broken,
            0,
        ),
        ("a receiver of ours", f'{delivery},receiver_name="critical"}}', once, 1),
        ("a receiver of ours in Kubernetes", f'{delivery},receiver_name="rl/rl-alerts/watchdog"}}', once, 1),
        ("another team's receiver", f'{delivery},receiver_name="payments-critical"}}', broken, 0),
        (
            "another Prometheus sends",
            'prometheus_notifications_errors_total{instance="o",alertmanager="x"}',
            broken,
            0,
        ),
        (
            "another Prometheus knows none",
            'prometheus_notifications_alertmanagers_discovered{instance="o"}',
            ok,
            0,
        ),
        ("another vmalert sends", 'vmalert_alerts_send_errors_total{instance="o",addr="x"}', broken, 0),
        ("no Alertmanager", 'prometheus_notifications_alertmanagers_discovered{instance="p"}', ok, 1),
        ("an Alertmanager", 'prometheus_notifications_alertmanagers_discovered{instance="p"}', [1.0] * 81, 0),
        ("vmalert", 'vmalert_alerting_rules_error{group="rl-heads",alertname="x"}', [1.0] * 81, 1),
        ("vmalert recording", 'vmalert_recording_rules_error{group="rl-entropy",recording="x"}', [1.0] * 81, 1),
        ("vmalert's missed evaluations", 'vmalert_iteration_missed_total{group="rl-heads"}', broken, 1),
        ("vmalert misses one", 'vmalert_iteration_missed_total{group="rl-heads"}', once, 0),
        ("vmalert misses a foreign group's", 'vmalert_iteration_missed_total{group="node"}', broken, 0),
        ("vmalert sending", 'vmalert_alerts_send_errors_total{instance="v",addr="x"}', broken, 1),
    )
    for what, series, values, count in sources:
        ever_fired = f'count(count_over_time(ALERTS{{alertstate="firing", alertname="{name}", {OWN}}}[1200s]))'
        found: Expected = (({}, float(count)),) if count else ()
        checks = (Check(1200, ever_fired, found), watchdog)
        yield Case(f"monitoring: {what}", (), 1200, checks, {**evaluators, series: compressed(values)})


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    yield from _stalled()
    yield from _record_errors()
    yield from _beside()
    yield from _size()
    yield from _monitoring()
