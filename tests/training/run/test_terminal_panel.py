"""`rl-train --tui`: the panel in front, the training behind it, and neither at the other's mercy."""

import functools
import json
import logging
import threading

import pytest
from textual.pilot import Pilot

from rl_exporter.panel.action_heads_panel import ActionHeadsPanel
from rl_exporter.panel.app import WatchApp
from rl_exporter.panel.sources import LocalSource
from rl_exporter.snapshot import RunState
from rl_training.run import terminal_panel as tui
from rl_training.run.cli import main
from rl_training.run.signals import StopSignals
from rl_training.run.terminal_panel import train_beside_panel
from tests.support.panel_runs import ratio_run
from tests.support.playing import SMALL
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def headless(monkeypatch):
    """Lets a script, ``script(pilot)``, drive the panel in place of a person at a terminal."""

    def use(script=None):
        run = functools.partialmethod(WatchApp.run, headless=True, size=(120, 40), auto_pilot=script)
        monkeypatch.setattr(WatchApp, "run", run)
        monkeypatch.setattr("rl_training.run.job.require_panel", lambda: None)

    return use


class Training:
    """Trains until it is told to stop; counts updates."""

    def __init__(self, signals, updates=10**9):
        self.signals, self.limit, self.updates = signals, updates, 0
        self.thread = None
        self.pause = threading.Event()

    def __call__(self):
        self.thread = threading.current_thread()
        while self.updates < self.limit:
            self.updates += 1
            self.pause.wait(0.005)
            if self.signals.received():
                return RunState.INTERRUPTED
        return RunState.COMPLETED


SOURCE = LocalSource(ratio_run(0.9).snapshot)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_leaving_the_panel_ends_the_run_as_interrupted(headless, key, capsys):
    async def leave(pilot: Pilot):
        await pilot.press(key)

    headless(leave)
    training = Training(signals := StopSignals())
    assert train_beside_panel(training, SOURCE, signals) is RunState.INTERRUPTED
    assert training.thread is not threading.main_thread()
    assert not training.thread.is_alive()
    assert "the run ends after this update" in capsys.readouterr().err


def test_the_end_of_the_run_closes_the_panel(headless):
    headless()
    training = Training(signals := StopSignals(), updates=20)
    assert train_beside_panel(training, SOURCE, signals) is RunState.COMPLETED
    assert not signals.received()


def test_a_run_that_is_over_before_the_panel_is_there_does_not_leave_it_open(headless):
    headless()
    assert train_beside_panel(lambda: RunState.COMPLETED, SOURCE, StopSignals()) is RunState.COMPLETED


@pytest.mark.parametrize("where", ["show", "start"])
def test_an_error_of_the_panel_never_stops_the_training(headless, monkeypatch, caplog, where, capfd):
    def broken(self, *args, **kwargs):
        raise RuntimeError("the panel fell over")

    headless()
    if where == "show":
        monkeypatch.setattr(ActionHeadsPanel, "render", broken)
    else:
        monkeypatch.setattr(WatchApp, "run", broken)

    def training():
        until(lambda: "the panel failed" in caplog.text)
        return RunState.COMPLETED

    assert train_beside_panel(training, SOURCE, signals := StopSignals()) is RunState.COMPLETED
    assert not signals.received()


def test_an_error_of_the_training_closes_the_panel_and_comes_through(headless):
    def broken():
        raise RuntimeError("the robot fell over")

    headless()
    with pytest.raises(RuntimeError, match="the robot fell over"):
        train_beside_panel(broken, SOURCE, StopSignals())


def test_log_lines_wait_until_the_panel_is_gone(headless, capsys):
    handler = logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    seen = []

    def warns():
        logging.getLogger("rl_training").warning("loss not finite")
        seen.append(handler in root.handlers)
        return RunState.COMPLETED

    headless()
    try:
        train_beside_panel(warns, SOURCE, StopSignals())
    finally:
        root.removeHandler(handler)
    assert seen == [False]
    assert "loss not finite" in capsys.readouterr().err


def test_the_run_is_the_same_with_and_without_the_panel(headless, tmp_path, capsys):
    logs = []
    small = ["--num-envs", "4", "--rollout-steps", "16", *(f"--env-arg={k}={v}" for k, v in SMALL.items())]
    fixed = [*small, "--listen", "127.0.0.1:0", "--linger", "0", "--run-id", "same", "--updates", "2"]
    for name, options in (("plain", ["--quiet"]), ("tui", ["--tui"])):
        headless()
        log = tmp_path / name
        assert main([*fixed, *options, "--log-json", str(log)]) == 0
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        logs.append(
            [{k: v for k, v in line.items() if "duration" not in k and "timestamp" not in k} for line in lines]
        )
    assert logs[0] == logs[1]
    assert "run same completed" in capsys.readouterr().out


def test_what_the_panel_lacks_is_one_line_and_status_2(monkeypatch, capsys):
    assert main(["--tui"]) == 2
    assert capsys.readouterr().err == "rl-train: error: --tui needs a terminal; leave it out\n"
    monkeypatch.setattr(tui, "find_spec", lambda name: None)
    assert main(["--tui"]) == 2
    assert "pip install 'rl-policy-exporter[tui]'" in capsys.readouterr().err
