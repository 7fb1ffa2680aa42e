"""Cases of labels that only some series of a run have, and of replicas: what fires fires, and what is silent is silent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType

from tests.alerts.rule_cases.case import OWN, Case, Check, Claim, alert, ever, firing, is_firing, without_a_gap
from tests.alerts.rule_cases.collapse import COLLAPSED, LOW
from tests.alerts.rule_cases.controller import SATURATED
from tests.alerts.rule_cases.ends import DOWN, FAILED, NEVER_UP, VANISHED
from tests.alerts.rule_cases.simulation import (
    ALWAYS_COLLAPSED,
    ALWAYS_HEALTHY,
    STARVED,
    UNMEASURED,
    Declared,
    Measured,
    Run,
    constant,
    decides,
)
from tests.alerts.rule_cases.training import STALLED

_RUN = Run(policy=ALWAYS_HEALTHY, period=30)
_DEAD = decides(0.05)._replace(g=0.0)


def _fires(at: float, name: str) -> Check:
    """At least one alert of this name fires."""
    every = f'group by (alertname) (ALERTS{{alertstate="firing", alertname="{name}", {OWN}}})'
    return Check(at, every, (({"alertname": name}, 1.0),), Claim("fires", name=name))


def _falls(number: int) -> Mapping[str, Measured]:
    return {"op": decides(max(0.3, 0.95 - 0.02 * number))}


def _heads() -> Iterator[Case]:
    """Each alert about a head; a clean end resolves those of a collapse."""
    run = replace(_RUN, policy=ALWAYS_COLLAPSED, end=(600, "completed"), gone=630, removed=630)
    yield Case("collapsed, then completed", (run,), 900, (firing(585, COLLAPSED, LOW), firing(660)))
    for name, policy in (
        ("Settled", constant(decides(0.1, 0.6))),
        ("Dead", constant(_DEAD)),
        ("GradientsExploding", constant(decides(0.8)._replace(g=6.0))),
        ("NonFinite", constant(decides(0.8)._replace(nans=3))),
        ("EntropyFallingFast", _falls),
        ("Diluted", constant(Measured(normalized=0.2, choice=0.9, share=0.1, open=0.9))),
        ("Starved", constant(STARVED)),
    ):
        yield Case(f"{name} fires", (replace(_RUN, policy=policy),), 900, (_fires(900, f"RLPolicyHead{name}"),))
    held = decides(0.1)._replace(saturated=0)
    yield Case("collapsed under control", (replace(_RUN, policy=constant(held)),), 900, (ever(900),))
    bound = replace(_RUN, policy=constant(held._replace(saturated=10)))
    yield Case("its controller is at its bound", (bound,), 900, (firing(900, SATURATED, COLLAPSED, LOW),))
    missing = replace(_RUN, policy=constant(UNMEASURED))
    yield Case("missing", (missing,), 600, (firing(600, alert("RLPolicyHeadsMissing", "op")),))


def _runs() -> Iterator[Case]:
    """Each alert about a run or its target, and what must not fire it."""
    for fate, removed in (("removed", 660.0), ("left", inf)):
        done = replace(_RUN, end=(600, "completed"), gone=630, removed=removed)
        yield Case(f"healthy, then completed, {fate}", (done,), 1200, (ever(1200),))
    blip = replace(_RUN, failed_scrapes=tuple(range(600, 690, 15)))
    yield Case("90 s of failed scrapes", (blip,), 1200, (ever(1200),))
    for fate, removed, page in (("removed", 620.0, VANISHED), ("left", inf, DOWN)):
        lost = replace(_RUN, gone=600, removed=removed)
        checks = (ever(705), firing(840, page), firing(2400, page), ever(2400, page))
        yield Case(f"killed, {fate}", (lost,), 2400, checks)
        younger = replace(_RUN, run_id="b", start=630, end=(900, "completed"), gone=930)
        yield Case(f"a younger run, {fate}", (replace(_RUN, gone=600), younger), 1500, (ever(1500),))
    moved = replace(_RUN, start=630, instance="other:28008", end=(900, "completed"), gone=930, removed=930)
    yield Case("goes on elsewhere", (replace(_RUN, gone=600, removed=600), moved), 1500, (ever(1500),))
    failed = replace(_RUN, end=(600, "failed"), gone=645, removed=660)
    yield Case("failed", (failed,), 1500, (firing(630, FAILED), ever(1500, FAILED)))
    refused = replace(_RUN, gone=0)
    yield Case(
        "a target never answers, whatever its labels", (refused,), 1000, (ever(585), firing(1000, NEVER_UP))
    )
    stuck = replace(_RUN, last_update=300)
    yield Case("stalled", (stuck,), 1000, (ever(860), firing(1000, STALLED)))
    slow = replace(_RUN, period=1200, phase=-600)
    yield Case("slow, not stalled", (slow,), 2400, (ever(2400),))
    errors = replace(_RUN, record_errors=lambda now: float(now >= 600))
    page = alert("RLExporterRecordErrors")
    yield Case("a telemetry error", (errors,), 630, (ever(599), firing(630, page)))


Change = Callable[[Run], tuple[Run, ...]]


def _replicas(run: Run) -> tuple[Run, ...]:
    """Two Prometheus whose series differ by a label; the second one misses a scrape now and then."""
    missed = tuple(range(150, 4000, 225))
    return (
        replace(run, labels={"replica": "a"}),
        replace(run, labels={"replica": "b"}, failed_scrapes=(*run.failed_scrapes, *missed)),
    )


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "metric_relabel_configs": lambda run: (replace(run, sample_labels={"team": "robots"}),),
        "relabelled by run_id": lambda run: (replace(run, run_labels={"team": f"of {run.run_id}"}),),
        # The target's label of this name is on "up", and on samples that have none of their own.
        "honor_labels": lambda run: (replace(run, labels={"state": "bavaria"}),),
        "external_labels, remote write": lambda run: (
            replace(run, labels={"cluster": "lab", "prometheus": "east", "tenant_id": "rl"}),
        ),
        "replicas": _replicas,
    }
)
"""What an installation does to the series of a run."""


def _one_replica_is_cut_off() -> Iterator[Case]:
    """One of two replicas no longer reaches the run, or has left: the other one sees it, so nobody is paged."""
    slow = replace(_RUN, period=600, phase=-590)
    seen = replace(slow, labels={"replica": "a"})
    for fate, removed in (("its target listed", inf), ("gone", 615.0)):
        lost = replace(slow, labels={"replica": "b"}, gone=615, removed=removed)
        yield Case(f"a replica is cut off, {fate}", (seen, lost), 2400, (ever(2400),))
    ended = replace(_RUN, labels={"replica": "a"}, end=(615, "completed"), gone=645)
    missed = replace(ended, labels={"replica": "b"}, gone=600)
    yield Case("one of two replicas saw the end", (ended, missed), 2400, (ever(2400),))


def _two_alerts() -> Case:
    """With a label that nobody drops, each replica's series has its alert, in one notification for the run."""
    both = _replicas(replace(_RUN, policy=ALWAYS_COLLAPSED))
    return Case("an alert for each replica", both, 600, (is_firing(600, "RLPolicyHeadCollapsed", 2),))


def _without_a_cluster() -> Case:
    """Every alert on a head or a run, of runs without the label by which cases share a test group."""
    nats = decides(0.9, 0.01)._replace(normalized=1.2 / math.log(6))
    rising = replace(_RUN, policy=constant(nats), declared={"op": Declared(reference=0.5)})
    others = {case.name.removesuffix(" fires"): case.runs[0] for case in plain() if len(case.runs) == 1}
    runs = {"EntropyRising": rising, **{name: others[name] for name in _FIRING if name in others}}
    named = tuple(
        replace(run, run_id=name, instance=f"{number}:28008") for number, (name, run) in enumerate(runs.items())
    )
    firing_alerts = f'ALERTS{{alertstate="firing", alertname!~"RLMonitoring.+", {OWN}}}'
    found = [
        (NEVER_UP if page == NEVER_UP["alertname"] else alert(page, run_id=name), 1.0)
        for name, pages in _FIRING.items()
        for page in pages.split()
    ]
    check = Check(1000, f"group by (alertname, run_id) ({firing_alerts})", tuple(found))
    return Case("every alert without a cluster", named, 1000, (check,), alone=True)


_LOW = "RLPolicyHeadCollapsed RLPolicyHeadEntropyLow"
_FIRING: Mapping[str, str] = MappingProxyType(
    {
        "Settled": "RLPolicyHeadSettled",
        "Dead": f"RLPolicyHeadDead {_LOW}",
        "GradientsExploding": "RLPolicyHeadGradientsExploding",
        "NonFinite": "RLPolicyHeadNonFinite",
        "EntropyFallingFast": "RLPolicyHeadEntropyFallingFast RLPolicyHeadEntropyLow",
        "EntropyRising": "RLPolicyHeadEntropyRising",
        "Diluted": "RLPolicyHeadDiluted",
        "Starved": "RLPolicyHeadStarved",
        "its controller is at its bound": f"RLPolicyControllerSaturated {_LOW}",
        "missing": "RLPolicyHeadsMissing",
        "killed, removed": "RLTrainingVanished",
        "killed, left": "RLTrainingTargetDown",
        "a target never answers, whatever its labels": "RLTrainingTargetNeverUp",
        "failed": "RLTrainingFailed",
        "stalled": "RLTrainingStalled",
        "a telemetry error": "RLExporterRecordErrors",
        "slow, not stalled": "",
    }
)
"""The alerts that fire after 1000 s, by the case without its last word "fires"."""


def plain() -> Iterator[Case]:
    """Yield the cases of this subject without any label: what a ruler's own labels must not change either."""
    yield from _heads()
    yield from _runs()


def for_a_ruler() -> Iterator[Case]:
    """Yield ``plain``, and cases in which a ruler's own series are all that remembers a run."""
    yield from plain()
    for fate, removed, page in (("removed", 620.0, VANISHED), ("left", inf, DOWN)):
        lost = replace(_RUN, gone=600, removed=removed)
        checks = (without_a_gap(page["alertname"], 840, 3600), ever(3600, page))
        yield Case(f"killed, {fate}, for 50 minutes", (lost,), 3600, checks)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
    for what, change in CHANGES.items():
        for case in plain():
            runs = tuple(changed for run in case.runs for changed in change(run))
            yield replace(case, name=f"{what}: {case.name}", runs=runs)
    yield from _one_replica_is_cut_off()
    yield _two_alerts()
    yield _without_a_cluster()
