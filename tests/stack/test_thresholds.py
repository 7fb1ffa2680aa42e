"""Follows "Change a threshold" of docs/alerts.md with a real Prometheus: the run's own numbers decide."""

import re

import pytest

import rl_exporter
from stack.processes import Binaries, Stack
from tests.support import ROOT
from tests.support.servers import query
from tests.support.waiting import until, until_equal

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def declared(run_id):
    """The run that the page declares, under another name and at an address that is free."""
    page = (ROOT / "docs/alerts.md").read_text().split("## Change a threshold")[1]
    code = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)[1]
    place = f'run_id="{run_id}", listen="127.0.0.1:0", linger=0'
    names = {}
    exec(code.replace('run_id="tuned"', place), names)
    return names["run"]


@pytest.fixture
def stack(prometheus, tmp_path):
    with Stack(tmp_path, Binaries(prometheus=prometheus), faster=15) as stack:
        yield stack


def test_the_thresholds_of_the_run_decide_which_head_warns(stack):
    runs = {"at-0.45": (declared("at-0.45"), 0.45), "at-0.3": (declared("at-0.3"), 0.3)}
    usual = rl_exporter.serve({"op": 6, "slot": 3}, run_id="usual", listen="127.0.0.1:0", linger=0)
    runs["usual"] = usual, 0.45
    for name, (run, _) in runs.items():
        stack.list_target(name, run.url.removeprefix("http://").partition("/")[0])
    stack.start_prometheus()
    firing = 'ALERTS{alertstate="firing", alertname="RLPolicyHeadEntropyLow"}'

    def warned():
        for run, ratio in runs.values():
            head = {"choice_entropy": ratio, "choice_share": 0.5, "entropy": ratio, "state_information": 0.01}
            run.record(**{key: {"op": value, "slot": 0.9} for key, value in head.items()})
        found = {(row["metric"]["run_id"], row["metric"]["head"]) for row in query(stack.prometheus, firing)}
        return len(found) > 1 and found

    def limits():  # a scrape that took too long on a busy machine leaves a gap
        rows = query(stack.prometheus, 'rl_policy_head_entropy_threshold_ratio{run_id="at-0.45",head="op"}')
        return {row["metric"]["level"]: row["value"][1] for row in rows}

    def levels():  # recorded by another group than the one that the alert waits for
        rows = query(stack.prometheus, 'head:rl_policy_effective_entropy:level{head="op"}')
        return {row["metric"]["run_id"]: row["value"][1] for row in rows}

    assert until(warned, every=0.3) == {("at-0.3", "op"), ("usual", "op")}
    until_equal(limits, {"warning": "0.4", "critical": "0.2"})
    until_equal(levels, {"at-0.45": "0", "at-0.3": "1", "usual": "1"})
    # The third, too, has been judged now.
    assert until(warned, every=0.3) == {("at-0.3", "op"), ("usual", "op")}
    for run, _ in runs.values():
        run.close()
