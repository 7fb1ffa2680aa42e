"""Cases of runs in pods. The retry of a run has another pod, so other target labels and another address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.alerts.rule_cases.case import OWN, Case, Check, ever, firing, nothing_at_all
from tests.alerts.rule_cases.collapse import COLLAPSED, LOW
from tests.alerts.rule_cases.ends import FAILED, VANISHED
from tests.alerts.rule_cases.simulation import ALWAYS_COLLAPSED, ALWAYS_HEALTHY, Run


def _in_pod(run: Run, pod: str, address: str) -> Run:
    """``run`` with the labels that the Prometheus operator gives the target of a pod."""
    labels: Mapping[str, str] = {
        "cluster": "east",
        "namespace": "rl",
        "pod": f"grasp-0-{pod}",
        "container": "trainer",
        "endpoint": "metrics",
    }
    return replace(run, instance=f"{address}:28008", labels=labels)


_LOST = _in_pod(Run(policy=ALWAYS_HEALTHY, period=30, gone=300, removed=300), "x", "10.0.0.1")


def _retry(start: float, end: tuple[float, str], phase: float = 1) -> Run:
    """The same run in the next pod, which disappears after the run has ended."""
    gone = end[0] + 30
    run = Run(policy=ALWAYS_HEALTHY, period=30, start=start, phase=phase, end=end, gone=gone, removed=gone)
    return _in_pod(run, "y", "10.0.0.2")


def _clean() -> Case:
    """A pod that completes leaves discovery soon after a scrape of its final state."""
    run = Run(policy=ALWAYS_COLLAPSED, period=30, end=(450, "completed"), gone=480, removed=480)
    checks = (firing(435, COLLAPSED, LOW), firing(510), nothing_at_all(900, since=510))
    return Case("a pod completes", (_in_pod(run, "x", "10.0.0.1"),), 900, checks)


def _retried() -> Iterator[Case]:
    """A pod is lost and the run ends in another one: the loss never pages."""
    for state in ("completed", "failed"):
        pages = (FAILED,) if state == "failed" else ()
        runs = (_LOST, _retry(345, (600, state)))
        yield Case(f"a lost pod is retried and {state}", runs, 1000, (ever(1000, *pages),))
    runs = (replace(_LOST, phase=10_000), _retry(345, (500, "interrupted"), phase=10_000))
    yield Case("a lost pod is retried and interrupted, both before the first update", runs, 900, (ever(900),))


def _retried_late() -> Iterator[Case]:
    """The alert about a lost pod resolves for good when the run continues, if only for a minute."""
    checks = (firing(600, VANISHED), firing(930), ever(1600, since=930))
    runs = (_LOST, _retry(900, (1200, "completed")))
    yield Case("a lost pod is retried after ten minutes", runs, 1600, checks)
    # By then the last update of the lost pod is older than what the rules look back.
    brief = (_LOST, _retry(1140, (1200, "completed")))
    forgotten = (firing(1125, VANISHED), ever(2200, since=1200))
    yield Case("a lost pod is retried after a quarter of an hour, briefly", brief, 2200, forgotten)


def _retried_and_lost() -> Case:
    """If the retry is lost too, one alert fires, about the last pod."""
    again = replace(_retry(345, (10_000, "completed")), gone=600, removed=600)
    vanished = f'ALERTS{{alertstate="firing", alertname="RLTrainingVanished", {OWN}}}'
    pod = f"group by (alertname, pod) ({vanished})"
    page = Check(900, pod, (({"alertname": "RLTrainingVanished", "pod": "grasp-0-y"}, 1.0),))
    return Case("a lost pod is retried and lost", (_LOST, again), 900, (ever(600), page))


def _relabelled() -> Case:
    """A target whose labels change, between two updates of a slow run that then completes, has not vanished."""
    before = Run(policy=ALWAYS_HEALTHY, period=300, removed=345)
    unseen = tuple(range(0, 345, 15))
    after = replace(
        before, labels={"team": "b"}, failed_scrapes=unseen, end=(800, "completed"), gone=830, removed=830
    )
    return Case("a target gets another label and completes", (before, after), 1600, (ever(1600),))


def _renamed() -> Case:
    """A process whose target gets another address, between two updates, and that then completes has not vanished."""
    before = Run(policy=ALWAYS_HEALTHY, period=300, removed=345)
    unseen = tuple(range(0, 345, 15))
    after = replace(
        before, instance="name:28008", failed_scrapes=unseen, end=(800, "completed"), gone=830, removed=830
    )
    return Case("a target gets another address and completes", (before, after), 1600, (ever(1600),))


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    yield _clean()
    yield from _retried()
    yield from _retried_late()
    yield _retried_and_lost()
    yield _relabelled()
    yield _renamed()
