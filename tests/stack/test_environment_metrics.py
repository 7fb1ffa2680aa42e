"""What environments report, from a run through a real Prometheus to the panels of RL Run."""

import json
import re
import urllib.parse

import pytest

import rl_exporter
from tests.support.dashboard_files import BOARDS, filled, targets, variable_queries
from tests.support.one_prometheus import prometheus_with
from tests.support.servers import get, query
from tests.support.waiting import until_equal

pytestmark = pytest.mark.stack

REPORTED = {
    "accuracy_ratio": 0.75,
    'modules_ratio{slot="a",kind="conv"}': 0.5,
    'modules_ratio{slot="b",kind="x"}': 1,
}

OF_THE_RUN = {"cluster": "", "namespace": "", "run_id": "reporting"}


def offered(server):
    """The names that the variable offers: what Grafana makes of its query and its pattern."""
    names = variable_queries(BOARDS["rl-run"])["environment_metric"][len("label_values(") : -1]
    selector, _, label = filled(names, **OF_THE_RUN).rpartition(", ")
    (variable,) = [one for one in BOARDS["rl-run"]["templating"]["list"] if one["name"] == "environment_metric"]
    arguments = urllib.parse.urlencode({"match[]": selector})
    names = json.loads(get(f"http://{server}/api/v1/label/{label}/values?{arguments}"))["data"]
    return [re.match(variable["regex"].strip("/"), name)[1] for name in names]


def shown(server, name):
    """Values of a name's panel by their labels beside those of the target."""
    (panel,) = [target for title, target in targets(BOARDS["rl-run"]) if "$environment_metric" in title]
    rows = query(server, filled(panel["expr"], **OF_THE_RUN, environment_metric=name))
    return {(row["metric"].get("slot"), row["metric"].get("kind")): float(row["value"][1]) for row in rows}


def test_each_name_that_environments_report_has_its_panel(prometheus, tmp_path):
    with rl_exporter.serve({"arm": 3}, run_id="reporting", listen="127.0.0.1:0", linger=0) as run:
        run.record({"arm": 1.0}, environment_metrics=REPORTED)
        job = {"job_name": "rl", "static_configs": [{"targets": [run.url.removeprefix("http://").strip("/")]}]}
        with prometheus_with(prometheus, tmp_path / "prometheus", job) as server:
            until_equal(lambda: offered(server), ["accuracy_ratio", "modules_ratio"])
            # A scrape that took too long on a busy machine leaves a gap.
            until_equal(lambda: shown(server, "accuracy_ratio"), {(None, None): 0.75})
            until_equal(lambda: shown(server, "modules_ratio"), {("a", "conv"): 0.5, ("b", "x"): 1.0})
            assert shown(server, "modules") == {}, "no part of a name"
            everything = {(None, None): 0.75, ("a", "conv"): 0.5, ("b", "x"): 1.0}
            until_equal(lambda: shown(server, ".*"), everything)
