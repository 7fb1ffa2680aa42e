"""promtool's test groups. Cases share one: three quarters of what promtool spends on one run it spends without any.

Each case of a shared group has its name as the label ``cluster`` of all its series. Rules join on this label, so they
keep the cases apart, and a check looks only at series that carry the name of its case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tests.alerts.rule_cases.case import OWN, Case, Check
from tests.alerts.rule_cases.notation import selector
from tests.alerts.rule_cases.scrapes import series
from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS

LOST = '{__name__=~"ALERTS|.+:.+", cluster="", alertname!="RLMonitoringWatchdog"}'
"""What rules made of the series of a shared group without the name of a case."""

_INTERVAL = f"{SCRAPE_SECONDS}s"
_SHORTEST = 1 / 3
"""Length of the shortest case of a group, as a part of the longest. Measured: 1/2 costs the same, and no limit a tenth more."""


class Part(NamedTuple):
    """What one case adds to the test group that it shares; its whole group if it is alone."""

    case: Case
    group: Mapping[str, Any]


def part(case: Case) -> Part:
    """Simulate a case."""
    return Part(case, _group(_alone(case) if case.alone else _marked(case)))


def groups(parts: Iterable[Part]) -> Iterator[Mapping[str, Any]]:
    """Yield the test groups of these cases: those that cases share, and one for each case that is alone."""
    every = tuple(parts)
    for pack in _of_similar_length(one for one in every if not one.case.alone):
        yield _shared(pack)
    yield from (one.group for one in every if one.case.alone)


def _of_similar_length(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Pack cases, longest first: promtool evaluates the rules for a case that has ended until its group has."""
    pack: list[Part] = []
    for one in sorted(parts, key=lambda one: -one.case.seconds):
        if pack and one.case.seconds < _SHORTEST * pack[0].case.seconds:
            yield pack
            pack = []
        pack.append(one)
    if pack:
        yield pack


def _shared(parts: Sequence[Part]) -> Mapping[str, Any]:
    cases = [one.case for one in parts]
    every = (*(one.group for one in parts), _group(_nothing_lost(cases)))
    return {
        "name": f"cases of {cases[-1].seconds:g} s to {cases[0].seconds:g} s",
        "interval": _INTERVAL,
        "input_series": [one for group in every for one in group["input_series"]],
        "promql_expr_test": [check for group in every for check in group["promql_expr_test"]],
    }


def _alone(case: Case) -> Case:
    """The case with checks that look at everything."""
    checks = (
        replace(check, expression=check.expression.replace(f", {OWN}", "").replace(f"{{{OWN}}}", ""))
        for check in case.checks
    )
    return replace(case, checks=tuple(checks))


def _marked(case: Case) -> Case:
    """The case with its name as a label of its series, and with checks that look only at these."""
    name = selector("", {"cluster": case.name})[1:-1]
    return replace(
        case,
        runs=tuple(replace(run, labels={**run.labels, "cluster": case.name}) for run in case.runs),
        extra={text.replace("{", f"{{{name},", 1): values for text, values in case.extra.items()},
        checks=tuple(replace(check, expression=check.expression.replace(OWN, name)) for check in case.checks),
    )


def _nothing_lost(cases: Iterable[Case]) -> Case:
    at = max(check.at for case in cases for check in case.checks)
    check = Check(at, f"count(count_over_time({LOST}[{int(at)}s]))")
    return Case("nothing without the name of a case", (), 0, (check,))


def _group(case: Case) -> Mapping[str, Any]:
    every = {**series(*case.runs, seconds=case.seconds), **case.extra}
    group: Mapping[str, Any] = {
        "name": case.name,
        "interval": _INTERVAL,
        "input_series": [{"series": name, "values": values} for name, values in sorted(every.items())],
        "promql_expr_test": [_check(check) for check in case.checks],
    }
    return {**group, "alert_rule_test": list(case.alerts)} if case.alerts else group


def _check(check: Check) -> Mapping[str, Any]:
    samples = [{"labels": selector("", labels) or "{}", "value": value} for labels, value in check.expected]
    return {"expr": check.expression, "eval_time": f"{int(check.at)}s", "exp_samples": samples}
