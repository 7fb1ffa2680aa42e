"""A notebook that runs its cell again and again, as a real Prometheus sees it."""

import threading

import pytest

import rl_exporter
from tests.support.one_prometheus import prometheus_with
from tests.support.servers import query
from tests.support.waiting import until

pytestmark = pytest.mark.stack


def value(server, promql):
    return [float(found["value"][1]) for found in query(server, promql)]


def test_counters_never_go_back_and_the_end_arrives_however_often_the_cell_runs(prometheus, tmp_path, caplog):
    def cell():
        heads = rl_exporter.serve({"arm": 4}, run_id="cell", listen="127.0.0.1:0", linger=120)
        for _ in range(5):
            heads.record(entropy={"arm": 1.0})
        return heads

    heads = cell()
    job = {"job_name": "rl", "static_configs": [{"targets": [heads.url.removeprefix("http://")]}]}
    with prometheus_with(prometheus, tmp_path / "prometheus", job) as server:
        for updates in (5, 10, 15):
            until(lambda updates=updates: value(server, "rl_training_updates_total") == [updates])
            heads = cell()
        assert value(server, "resets(rl_training_updates_total[10m])") == [0]
        end = threading.Thread(target=heads.close)
        end.start()
        until(lambda: value(server, 'rl_training_run_state{state="completed"}') == [1])
        end.join(60)
        assert not end.is_alive()
    assert heads.snapshot().tamiyo.updates == 20
    assert "for Prometheus/" in caplog.records[-1].message
