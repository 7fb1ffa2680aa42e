"""A pair of real Prometheus servers on one machine: one address, one user agent, and both see how a run ends."""

import threading
from contextlib import ExitStack

import pytest

import rl_exporter
from tests.support.one_prometheus import prometheus_with
from tests.support.servers import query
from tests.support.waiting import until

pytestmark = pytest.mark.stack


def state(server):
    return [found["metric"]["state"] for found in query(server, "rl_training_run_state == 1")]


def test_the_end_of_a_run_reaches_both_replicas(prometheus, tmp_path):
    with ExitStack() as stack:
        run = rl_exporter.serve({"arm": 4}, run_id="pair", listen="127.0.0.1:0", linger=120)
        run.record(entropy={"arm": 1.0})
        job = {"job_name": "rl", "static_configs": [{"targets": [run.url.removeprefix("http://")]}]}
        pair = [stack.enter_context(prometheus_with(prometheus, tmp_path / name, job)) for name in ("a", "b")]
        for replica in pair:
            until(lambda replica=replica: state(replica) == ["running"])
        closing = threading.Thread(target=run.close)
        closing.start()
        for replica in pair:
            until(lambda replica=replica: state(replica) == ["completed"])
        closing.join(60)
        assert not closing.is_alive(), "both have it: nobody else is waited for"
