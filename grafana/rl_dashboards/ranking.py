"""In which order runs need to be looked at: what pages first."""

from __future__ import annotations

from rl_dashboards import queries
from rl_dashboards.alert_queries import paging
from rl_dashboards.queries import RATIO, RUN_KEY, RunPhase, last, run_selector
from rl_dashboards.verdict_queries import Codes, Verdict, verdicts_of_runs

PLACES: Codes = {
    Verdict.EXPLODING: 0,
    Verdict.DEAD: 2,
    Verdict.COLLAPSED: 4,
    Verdict.LOW: 10,
    Verdict.STARVED: 12,
    Verdict.HEALTHY: 14,
    Verdict.SETTLED: 16,
}
"""Where runs stand in Fleet by the verdict on their worst head, smallest first; within a verdict the lowest ratio, at
most 1, decides."""

IN_TROUBLE, STALLED, UNJUDGED, ENDED = 6, 8, 20, 40
"""Where failed and lost runs stand, stalled ones, runs without a verdict, and those that ended."""

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


def rank() -> str:
    """Where each run stands, smallest first: what pages, then as its worst head does, ended runs behind all others."""
    verdict = f'label_replace({verdicts_of_runs(PLACES, "min")}, "of", "head", "", "")'
    phase = f'label_replace({queries.run_phase(codes=_PHASES)}, "of", "phase", "", "")'
    place = f"min by ({RUN_KEY}) ({verdict} or {phase})"
    parts = {
        "place": place,
        "ratio": f"clamp_max(min by ({RUN_KEY}) ({RATIO}), 1)",
        "pages": f"{PAGES} + 0 * {paging()}",
    }
    labelled = (f'label_replace({part}, "of", "{of}", "", "")' for of, part in parts.items())
    return f"sum by ({RUN_KEY}) ({' or '.join(labelled)})"
