"""In which order runs need to be looked at: what pages first."""

from __future__ import annotations

from rl_dashboards import queries
from rl_dashboards.alert_queries import paging
from rl_dashboards.queries import RUN, RUN_KEY, RunPhase, last, run_selector
from rl_dashboards.verdict_queries import Verdict, verdicts_of_runs

IN_TROUBLE, STALLED, UNJUDGED, ENDED = 18, 20, 64, 68
"""Where failed and lost runs stand, stalled ones, runs without a verdict, and those that ended: failed, lost and stalled
ones between collapsed and low."""

_APART = 8
"""Places between two verdicts."""

PAGES = -100
"""A run for which a critical alert fires stands before all that have none."""

_PHASES = {
    RunPhase.RUNNING: UNJUDGED,
    RunPhase.STALLED: STALLED,
    RunPhase.FAILED: IN_TROUBLE,
    RunPhase.LOST: IN_TROUBLE,
    RunPhase.COMPLETED: ENDED,
    RunPhase.INTERRUPTED: ENDED,
}


def every_run() -> str:
    """1 for each run with samples in the time range."""
    return f"max by ({RUN_KEY}) ({last(run_selector('rl_training_run_info'))})"


def place_of(verdict: Verdict) -> int:
    """Where runs stand by the verdict on their worst head, smallest first; settled ones after healthy ones.

    Within a verdict the lowest ratio, at most 1, decides.
    """
    return 60 if verdict is Verdict.SETTLED else 56 - _APART * verdict


def rank() -> str:
    """Where each run stands, smallest first: what pages, then as its worst head does, ended runs behind all others."""
    settled = f"{place_of(Verdict.SETTLED)} + 0 * ({verdicts_of_runs()} == {int(Verdict.SETTLED)})"
    place = f"({settled} or {place_of(Verdict.HEALTHY)} - {_APART} * {verdicts_of_runs()})"
    verdict = f'label_replace({place}, "of", "head", "", "")'
    phase = f'label_replace({queries.run_phase(codes=_PHASES)}, "of", "phase", "", "")'
    parts = {
        "place": f"min by ({RUN_KEY}) ({verdict} or {phase})",
        "ratio": f"clamp_max(min by ({RUN_KEY}) (run:rl_policy_effective_entropy:lowest{{{RUN}}}), 1)",
        "pages": f"{PAGES} + 0 * {paging()}",
    }
    labelled = (f'label_replace({part}, "of", "{of}", "", "")' for of, part in parts.items())
    return f"sum by ({RUN_KEY}) ({' or '.join(labelled)})"
