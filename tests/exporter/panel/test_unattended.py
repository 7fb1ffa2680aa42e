"""`rl-exporter watch --notify`: runs that others serve page without a stack, and so does the loss of one."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

import rl_exporter
from rl_exporter import Heads, ListenAddress, MetricsServer, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.cli.main import main
from rl_exporter.client.addresses import parse_target
from rl_exporter.client.fetch import Fetcher
from rl_exporter.heads import Head
from rl_exporter.notify.destination import parse_destination
from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.panel.sources import Backoff, EndpointSource
from rl_exporter.panel.unattended import UnattendedWatch
from rl_exporter.panel.watch import RunSelection
from tests.exporter.notify.test_notifier import HEALTHY, LOW, summaries
from tests.support.waiting import until
from tests.support.webhooks import webhook


@contextmanager
def served(measured):
    """A run whose head op has measured this for five minutes."""
    start = time.time() - 300
    clock = iter([start, *(start + 60 * n for n in range(1, 99))])
    aggregator = SanctumAggregator(Heads([Head("op", 6)]), RunInfo("drill"), clock=lambda: next(clock))
    for _ in range(5):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": measured}))
    server = MetricsServer(aggregator.snapshot, ListenAddress(port=0))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_a_collapsed_run_pages_and_a_signal_ends_the_watch():
    command = [sys.executable, "-c", "import sys; from rl_exporter.cli import main; sys.exit(main())"]
    with webhook() as hook, served(LOW) as server:
        watching = [*command, "watch", "--notify", f"json:{hook.url}", str(server.address)]
        with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            [post] = hook.arrived()
            watch.send_signal(signal.SIGTERM)
            out, err = watch.communicate(timeout=60)
        assert (watch.returncode, err) == (0, "")
        assert summaries(post) == [("firing", "Run drill: head op has collapsed")]
        assert post["alerts"][0]["labels"]["instance"] == f"http://{server.address}/metrics"
    first, second, *_ = out.splitlines()
    assert first == "messages go to 127.0.0.1; Ctrl-C ends the watch"
    assert re.fullmatch(r"\d\d:\d\d:\d\d  CRITICAL  run drill: head op has collapsed, for [45] min", second)


class Watching:
    """An unattended watch in this process. ``listed`` is what discovery says; each look comes ``step`` seconds later."""

    def __init__(self, run, hook):
        self.now, self.step = time.time(), 0.0
        self.run = run
        self.listed = [self.run], []
        self.discover = lambda: self.listed
        self.looks = 0
        self._watch = UnattendedWatch(
            self._discover, [parse_destination(hook.url)], every=0.01, clock=lambda: self.now
        )

    def _discover(self):
        self.looks += 1
        self.now += self.step
        return self.discover()

    def while_it_watches(self, act):
        def acting():
            try:
                act(self)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=acting)
        thread.start()
        self._watch.run()
        thread.join()

    def looks_on(self, looks=10):
        before = self.looks
        until(lambda: self.looks >= before + looks, every=0.01)


def test_a_run_that_no_longer_answers_or_is_no_longer_listed_pages(capsys):
    with webhook() as hook, served(HEALTHY) as server:

        def act(watching):
            until(lambda: watching.run.fetched)
            watching.looks_on()
            watching.step = 20.0
            server.stop()
            hook.arrived()
            # A list that cannot be read proves nothing about the runs on it.
            watching.listed = [], ["'/targets': Input/output error"]
            watching.looks_on()
            assert len(hook.posts) == 1
            watching.listed = [], []
            hook.arrived(3)

        target = parse_target(str(server.address))
        run = ObservedRun(EndpointSource(target, Fetcher(timeout=5)), Backoff(0.02), timeout=5)
        Watching(run, hook).while_it_watches(act)
        assert [summaries(post) for post in hook.posts] == [
            [("firing", "Run drill: the run does not answer")],
            [("resolved", "Run drill: the run does not answer")],
            [("firing", "Run drill: the run has vanished")],
        ]
    assert capsys.readouterr().err == "rl-exporter watch: '/targets': Input/output error\n"


def test_a_list_that_is_broken_for_a_while_loses_no_run(tmp_path):
    """As while somebody writes it. A run that was forgotten would not be polled again, and page for its loss."""
    with webhook() as hook, served(HEALTHY) as server:
        good = f'[{{"targets": ["{server.address}"]}}]'
        file = tmp_path / "runs.json"
        file.write_text(good)

        def observe(target):
            return ObservedRun(EndpointSource(target, Fetcher(timeout=5)), Backoff(0.02), timeout=5)

        def act(watching):
            until(lambda: watching.run.fetched)
            for text in (good[:-1], good):
                file.write_text(text)
                watching.looks_on()
            watching.listed, fetched = selection.discover(), watching.run.fetched
            assert watching.listed == ([watching.run], [])
            watching.looks_on()
            until(lambda: watching.run.fetched is not fetched)
            watching.step = 20.0
            watching.looks_on(20)

        selection = RunSelection([], tmp_path, observe, {})
        watching = Watching(selection.discover()[0][0], hook)
        watching.discover = selection.discover
        watching.while_it_watches(act)
        assert hook.posts == []


@pytest.mark.parametrize(("scope", "paged"), [("west", True), ("east", False)])
def test_the_loss_of_a_run_pages_unless_one_of_its_name_goes_on_in_its_cluster(scope, paged):
    """Both serve the same run at first, as one that is reached by two addresses does."""

    def observed(server, cluster):
        target = replace(parse_target(str(server.address)), scope=(cluster, ""))
        return ObservedRun(EndpointSource(target, Fetcher(timeout=5)), Backoff(0.02), timeout=5)

    with webhook() as hook, served(HEALTHY) as server, served(HEALTHY) as other:
        runs = [observed(server, "east"), observed(other, scope)]

        def act(watching):
            watching.listed = runs, []
            until(lambda: all(run.fetched for run in runs))
            watching.looks_on()
            watching.step = 20.0
            server.stop()
            if paged:
                hook.arrived()
            else:
                until(lambda: runs[0].problem)
                watching.looks_on(20)

        Watching(runs[0], hook).while_it_watches(act)
        expected = [[("firing", "Run drill: the run does not answer")]] if paged else []
        assert [summaries(post) for post in hook.posts] == expected


def test_a_run_waits_at_its_end_for_the_watch_that_would_page():
    with webhook() as hook:
        recorder = rl_exporter.serve({"op": 6}, run_id="grasp", listen="127.0.0.1:0", linger=60)
        recorder.record({"op": 1.5})
        target = parse_target(recorder.url)
        run = ObservedRun(EndpointSource(target, Fetcher(timeout=5, awaited=True)), Backoff(0.5), timeout=5)
        watching = Watching(run, hook)

        def act(watching):
            until(lambda: watching.run.fetched)
            watching.looks_on()
            recorder.close()
            until(lambda: watching.run.problem)
            watching.step = 20.0
            watching.looks_on(20)

        watching.while_it_watches(act)
        assert run.snapshot.run_state is rl_exporter.RunState.COMPLETED
        assert hook.posts == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--once", "--notify", "http://127.0.0.1/"],
            "--notify watches until Ctrl-C; leave out --once and --json",
        ),
        (["--notify", "T0KEN"], "argument --notify: no URL of a webhook; give the URL of a webhook"),
        (["--notify", "@/missing"], "argument --notify: '@/missing': No such file or directory; give the URL"),
    ],
)
def test_bad_input_is_one_line_without_the_url(capsys, arguments, reason):
    try:
        status = main(["watch", *arguments])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status == 3
    assert said.startswith(f"rl-exporter watch: error: {reason}")
    assert said.count("\n") == 1
    assert "T0KEN" not in said
