"""Cases of the verdict as a number: one head for each verdict, and what outranks what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from tests.alerts.rule_cases.case import OWN, Case, Check, Expected
from tests.alerts.rule_cases.simulation import CLOSED, STARVED, Measured, Run, decides
from tests.alerts.rule_cases.states import DEAD, EXPLODING
from tests.alerts.rule_cases.verdict import BLIND, HEALTHY_HEAD, SIGHTED

PERIOD = 30

COLLAPSED, LOW, SETTLED = decides(0.1, BLIND), decides(0.4, BLIND), decides(0.1, SIGHTED)
CLOSING = 10
"""The first update in which heads that close have no choice."""


class _Course(NamedTuple):
    before: Measured
    after: Measured
    soon: float
    """The verdict five minutes after the change."""
    late: float
    """The verdict after ten idle minutes."""


_HEADS: Mapping[str, _Course] = {
    "exploding": _Course(EXPLODING, EXPLODING._replace(choice=0.1, normalized=0.1), 7, 7),
    "dead": _Course(DEAD, DEAD, 6, 6),
    "collapsed": _Course(COLLAPSED, COLLAPSED, 5, 5),
    "low": _Course(LOW, LOW, 4, 4),
    "settled": _Course(SETTLED, SETTLED, 1, 1),
    "healthy": _Course(HEALTHY_HEAD, HEALTHY_HEAD, 0, 0),
    "warned": _Course(HEALTHY_HEAD, decides(0.4, SIGHTED), 0, 0),
    "recovered": _Course(COLLAPSED, HEALTHY_HEAD, 0, 0),
    "starved": _Course(HEALTHY_HEAD, STARVED, 3, 3),
    "closed": _Course(HEALTHY_HEAD, CLOSED, 2, 2),
    "settled, closed": _Course(SETTLED, CLOSED, 2, 2),
    "collapsed, closed": _Course(COLLAPSED, CLOSED, 5, 2),
    "low, starved": _Course(LOW, STARVED, 4, 3),
}


def _codes(at: float, numbers: Mapping[str, float]) -> Check:
    found = tuple(({"head": name}, number) for name, number in numbers.items())
    return Check(at, f"max by (head) (head:rl_policy_verdict:code{{{OWN}}})", found)


def _by_run(numbers: Mapping[str, float]) -> Expected:
    return tuple(({"run_id": name}, number) for name, number in numbers.items())


def _worst(at: float, **numbers: float) -> Check:
    return Check(at, f"max by (run_id) (run:rl_policy_verdict:worst{{{OWN}}})", _by_run(numbers))


def _every_verdict() -> Case:
    run = Run(
        policy=lambda n: {
            name: course.after if n >= CLOSING else course.before for name, course in _HEADS.items()
        },
        period=PERIOD,
        choices=dict.fromkeys(_HEADS, 6),
    )
    soon, late = run.update_time(CLOSING) + 300, run.update_time(CLOSING) + 690
    checks = (
        _codes(15, {}),
        _codes(soon, {name: course.soon for name, course in _HEADS.items()}),
        _codes(late, {name: course.late for name, course in _HEADS.items()}),
        _worst(soon, a=7),
    )
    return Case("every verdict", (run,), late, checks)


def _worst_heads() -> Case:
    def run(name: str, **heads: Measured) -> Run:
        choices = dict.fromkeys(heads, 6)
        return Run(policy=lambda _n: heads, period=PERIOD, choices=choices, run_id=name, instance=f"{name}:1")

    over = replace(run("over", op=COLLAPSED), end=(150, "completed"))
    runs = (
        over,
        run("paging", op=COLLAPSED, slot=SETTLED, style=CLOSED),
        run("solved", op=SETTLED, slot=HEALTHY_HEAD, style=CLOSED),
        run("fine", op=HEALTHY_HEAD, style=CLOSED),
        run("closed", style=CLOSED),
    )
    lowest = {"over": 0.1, "paging": 0.1, "solved": 0.1, "fine": 0.8}
    checks = (
        _worst(140, over=5, paging=5, solved=1, fine=0),
        _worst(300, paging=5, solved=1, fine=0),
        Check(300, f"max by (run_id) (run:rl_policy_effective_entropy:lowest{{{OWN}}})", _by_run(lowest)),
    )
    return Case("the worst verdict of each run", runs, 300, checks)


def _gone_between_two_rules() -> Case:
    """The ratio was recorded at this evaluation, and then the last scrape failed: that is no healthy head."""
    labels = 'instance="host:28008",job="rl-training",run_id="a",head="op"'
    ratio = {f"head:rl_policy_effective_entropy:ratio{{{labels}}}": "0.1x30"}
    level = Check(300, f"count(head:rl_policy_effective_entropy:level{{{OWN}}})")
    return Case("a target goes between two rules of one evaluation", (), 300, (level, _codes(300, {})), ratio)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    yield _every_verdict()
    yield _gone_between_two_rules()
    yield _worst_heads()
