"""Series as scrapes and rules would leave them, and what promtool answers to PromQL on them."""

import json
import subprocess

from rl_dashboards.verdict_queries import Verdict
from tests.support.dashboard_files import filled

RATIO, LEVEL = "head:rl_policy_effective_entropy:ratio", "head:rl_policy_effective_entropy:level"
VERDICT = "head:rl_policy_verdict:code"
MINUTES = 10
ENDS = 5
"""Minutes after which the series of an ended run are gone."""


def series(metric, values, **labels):
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{metric}{{{inside}}}", "values": values}


def held(value, ended=False):
    """A series with one value, to the end or until the run ends."""
    return f"{value:g}x{ENDS - 1} stale" if ended else f"{value:g}x{MINUTES}"


def head(
    name, run, level, ratio, verdict=Verdict.HEALTHY, *, ended=False, recorded=None, state="healthy", **target
):
    """One head as scrapes and rules would leave it; a verdict may be the values of its series."""
    labels = {"run_id": run, "head": name, **target}
    ruled = labels | (recorded or {})
    verdicts = verdict if isinstance(verdict, str) else held(int(verdict), ended)
    return [
        series(VERDICT, verdicts, **ruled),
        series(LEVEL, held(level, ended), **ruled),
        series(RATIO, held(ratio, ended), **ruled),
        series("rl_policy_head_choice_steps_ratio", held(verdict != Verdict.NO_CHOICE, ended), **labels),
        series("rl_policy_head_state", held(1, ended), state=state, **labels),
    ]


def run(
    name,
    state="running",
    *,
    ended=False,
    updated=240,
    started=1,
    worst=Verdict.HEALTHY,
    lowest=0.75,
    ruled=True,
    **target,
):
    """The series of a run as a whole; ``worst`` is the verdict on its worst head, ``lowest`` the lowest ratio."""
    labels = {"run_id": name, **target}
    of_run = [
        series("rl_training_run_state", held(1, ended), state=state, **labels),
        series("rl_training_run_info", held(1, ended), **labels),
        series("rl_training_start_timestamp_seconds", held(started, ended), **labels),
    ]
    if updated is not None:
        of_run.append(series("rl_training_last_update_timestamp_seconds", held(updated, ended), **labels))
    if ruled and state == "running":
        of_run.append(series("run:rl_training_run_state:running", held(1, ended), **labels))
        if updated is not None:
            of_run.append(series("run:rl_policy_verdict:worst", held(int(worst), ended), **labels))
            of_run.append(series("run:rl_policy_effective_entropy:lowest", held(lowest, ended), **labels))
    return of_run


def expect(promtool, folder, expression, answer, *given):
    """Asked at the last minute, the expression has exactly these answers: value by labels."""
    expected = [{"labels": labels, "value": value} for labels, value in answer.items()]
    asked = {"expr": filled(expression), "eval_time": f"{MINUTES}m", "exp_samples": expected}
    input_series = [one for group in given for one in group]
    test = {"interval": "1m", "input_series": input_series, "promql_expr_test": [asked]}
    path = folder / "test.yml"
    path.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    result = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def of_heads(**verdicts):
    return {f'{{head="{name}"}}': int(verdict) for name, verdict in verdicts.items()}


def alert(name, run_id, severity, *, head="", state="firing", since=300, **labels):
    """A firing alert, as Prometheus writes it."""
    labels = {"alertname": name, "severity": severity, "run_id": run_id, **labels}
    labels |= {"head": head} if head else {}
    return [
        series("ALERTS", held(1), alertstate=state, **labels),
        series("ALERTS_FOR_STATE", held(since), **labels),
    ]


WATCHDOG = [series("ALERTS", held(1), alertname="RLMonitoringWatchdog", alertstate="firing")]
