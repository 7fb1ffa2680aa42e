"""Cases of whole alerts, with the annotations that a person reads. No other case asserts an annotation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tests.alerts.rule_cases.case import Case
from tests.alerts.rule_cases.collapse import CRITICAL
from tests.alerts.rule_cases.simulation import Declared, Measured, Run, decides


class Page(NamedTuple):
    """A whole alert as a person gets it; ``facts`` are its annotations beside text and links."""

    name: str
    summary: str
    description: str
    severity: str
    facts: Mapping[str, str]
    timed: bool = True
    """Whether its link says the time of the event."""


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
        "dashboard_url": "http://127.0.0.1:3000/d/rl-heads?var-cluster=east+1&var-namespace=&"
        "var-run_id=drill+%26+%22co%22+%C3%BC&var-head=op"
        + f"&from={1000 * (600 - 554 - 1800)}&to={1000 * (600 + 1800)}"
        * page.timed,
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
    return Case(
        name, (run,), 600, (), {total: "6.98x40"}, tuple(_page(page, run) for page in pages), alone=True
    )


_SETTLED = Page(
    "RLPolicyHeadSettled",
    f"Head op of run {_RUN_ID} has settled (for 9m 14s)",
    f"Head op of run {_RUN_ID} has had an effective entropy ratio at or below its critical threshold for "
    "three updates or more and 9m 14s, and decides by what it sees: its exploration has ended. That is convergence "
    "if the return is where it should be, and premature otherwise.",
    "info",
    {},
    timed=False,
)


def cases() -> Iterator[Case]:
    """Yield all cases of this subject."""
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
    yield _whole("a settled head as a whole", settled, (_SETTLED,), returns=returns)
