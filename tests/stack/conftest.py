"""Two real runs, one with a cluster and one without, and one before its first update, scraped by the real servers with every interval a tenth."""

import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest

import rl_exporter
from stack.grafana import find_grafana
from stack.processes import Binaries, Stack, answers, free_address
from tests.support.one_prometheus import prometheus_with
from tests.support.servers import query
from tests.support.shown import AsOf, answer
from tests.support.small_runs import SMALL_UPDATES
from tests.support.waiting import until
from tests.support.worlds import EXPLODING, FLEET_SIZE, SimulatedRun, eight, fleet, listed


def train(stack, run, labels, *options):
    address = free_address()
    command = (
        *("--listen", address, "--run-id", run, "--quiet"),
        *("--pace", "0.3", "--linger", "20", "--num-envs", "4", *SMALL_UPDATES),
        # It learns nothing: a head that collapsed or settled would have alerts.
        *("--learning-rate", "1e-6"),
    )
    process = stack.start(run, sys.executable, "-m", "rl_training", *command, *options)
    listed = stack.list_target(run, address, labels)
    started = partial(process.wait_until, partial(answers, f"http://{address}/"), 120)
    return SimpleNamespace(run=run, process=process.popen, listed=listed, started=started)


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
        # One that could not start says why.
        one.started()
        two.started()
        until(lambda: len(query(server, "count by (run_id) (head:rl_policy_effective_entropy:level)")) == 2)
        until(lambda: query(server, 'min(rl_training_updates_total{run_id!="young"}) > 12'))
        until(lambda: query(server, "rate(prometheus_notifications_sent_total[30s]) > 0"))
        until(lambda: query(server, "alertmanager_notifications_total > 0"))
        yield SimpleNamespace(stack=stack, server=server, started=started, one=one, two=two, young=young)
        young.close()


def paging(server, cluster):
    firing = f'ALERTS{{cluster="{cluster}", severity="critical", alertstate="firing"}}'
    return len(answer(server, f"count by (run_id) ({firing})"))


SETTLED_SECONDS = 4
"""A scrape that takes longer has failed, and would have left its mark by now."""
SCRAPED = 8 + FLEET_SIZE + 1
"""Runs of the worlds that go on."""


def whole(ruled, bare):
    """Whether all runs that go on have been scraped, and the rules know it."""
    scraped = 'count by (run_id) (rl_training_run_state{cluster!="over"})'
    judged = 'count by (run_id) (head:rl_policy_effective_entropy:level{cluster!="over"})'
    return (
        len(answer(ruled, scraped)) == len(answer(bare, scraped)) == SCRAPED
        and len(answer(ruled, judged)) == SCRAPED - 1
        and paging(ruled, "over") == 2  # failed and vanished
        and paging(ruled, "fleet") == len(EXPLODING)
        and paging(ruled, "eight") == 3
    )


def of_one_moment(server, bare):
    """Both servers as of a moment at which everything was whole: on a busy machine scrapes fail now and then."""
    moment = time.time() - SETTLED_SECONDS
    ruled_then, bare_then = AsOf(server, moment), AsOf(bare, moment)
    return (ruled_then, bare_then) if whole(ruled_then, bare_then) else None


@pytest.fixture(scope="module")
def worlds(prometheus, tmp_path_factory):
    """Worlds of simulated runs, each a cluster: ``eight``, ``fleet``, ``young``, ``over``; ``bare`` has no rules."""
    folder = tmp_path_factory.mktemp("worlds")
    home = os.environ.get("GRAFANA_HOME")
    binaries = Binaries(prometheus=prometheus, grafana=find_grafana(home) if home else None)
    with Stack(folder, binaries, faster=10) as stack, ExitStack() as runs:
        young = SimulatedRun("young", updates=0, goes_on=False)
        over = [SimulatedRun("completed"), SimulatedRun("failed", {"op": "collapsed"}), SimulatedRun("lost")]
        for name, members in {
            "eight": eight(),
            "fleet": fleet(),
            "young": [young],
        }.items():
            runs.enter_context(listed(stack, name, members))
        ended = runs.enter_context(ExitStack())
        ended.enter_context(listed(stack, "over", over))
        stack.start_prometheus()
        job = {"job_name": "rl-training"}
        job["file_sd_configs"] = [
            {"files": [str(stack.folder / "prometheus/targets/*.json")], "refresh_interval": "1s"}
        ]
        bare = runs.enter_context(prometheus_with(prometheus, folder / "bare", job))
        server = stack.prometheus
        levels = 'count by (run_id) (head:rl_policy_effective_entropy:level{cluster="over"})'
        until(lambda: len(query(server, levels)) == len(over))
        over[0].end("completed")
        over[1].end("failed")
        states = 'rl_training_run_state{cluster="over", state!="running"} == 1'
        until(lambda: len(query(server, states)) == len(query(bare, states)) == 2)
        ended.close()
        until(lambda: not query(server, 'up{cluster="over"}') and not query(bare, 'up{cluster="over"}'))
        ruled_then, bare_then = until(partial(of_one_moment, server, bare))
        yield SimpleNamespace(stack=stack, ruled=ruled_then, bare=bare_then)
