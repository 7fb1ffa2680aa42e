"""Two real runs, one with a cluster and one without, and one before its first update, scraped by the real servers with every interval a tenth."""

import os
import sys
import time
from types import SimpleNamespace

import pytest

import rl_exporter
from stack.grafana import find_grafana
from stack.processes import Binaries, Stack, free_address
from tests.support.servers import query
from tests.support.waiting import until


def train(stack, run, labels, *options):
    address = free_address()
    command = (
        *("--listen", address, "--run-id", run, "--quiet"),
        *("--pace", "0.3", "--linger", "20", "--num-envs", "4"),
    )
    process = stack.start(run, sys.executable, "-m", "rl_training", *command, *options)
    listed = stack.list_target(run, address, labels)
    return SimpleNamespace(run=run, process=process.popen, listed=listed)


@pytest.fixture(scope="module")
def world(prometheus, alertmanager, tmp_path_factory):
    """Not for the session: its trainers would take a part of a core from every later test."""
    folder = tmp_path_factory.mktemp("dashboards")
    home = os.environ.get("GRAFANA_HOME")
    binaries = Binaries(
        prometheus=prometheus, alertmanager=alertmanager, grafana=find_grafana(home) if home else None
    )
    with Stack(folder, binaries, faster=10) as stack:
        started = time.time()
        stack.start_pages()
        stack.start_alertmanager()
        stack.start_prometheus()
        tables = ("--env", "heads", "--env-arg", "consult=table", "--updates", "100000")
        one = train(stack, "run-1", {"cluster": "lab"}, *tables)
        two = train(stack, "run.2+b", {}, "--env", "heads", "--updates", "100000")
        young = rl_exporter.serve({"arm": 3, "leg": 4}, run_id="young", listen="127.0.0.1:0", linger=0)
        stack.list_target("young", young.url.removeprefix("http://"))
        server = stack.prometheus
        until(lambda: len(query(server, "count by (run_id) (head:rl_policy_effective_entropy:level)")) == 2)
        until(lambda: query(server, 'min(rl_training_updates_total{run_id!="young"}) > 12'))
        until(lambda: query(server, "rate(prometheus_notifications_sent_total[30s]) > 0"))
        until(lambda: query(server, "alertmanager_notifications_total > 0"))
        yield SimpleNamespace(stack=stack, server=server, started=started, one=one, two=two, young=young)
        young.close()
