"""The panel while its source waits, grows old, fails or hangs."""

import threading

import pytest

from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, RunState, SanctumAggregator
from rl_exporter.client.fetch import FetchedSnapshot, UnreachableError
from rl_exporter.panel.app import WatchApp
from rl_exporter.panel.screens import RunScreen
from tests.support.panel_pilot import drive, panel, shows, text
from tests.support.panel_runs import NOW, Clock, ScriptedSource, ratio_run, watched, watched_run
from tests.support.waiting import until_async


def test_it_waits_for_the_first_update_and_then_shows_it():
    aggregator = SanctumAggregator(Heads.of({"op": 4}), RunInfo("fresh"), clock=lambda: NOW)

    async def script(pilot):
        await shows(pilot, "fresh", "waiting", "for the first update; heads: op")
        assert "0.000" not in text(pilot.app)
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(0.9)}))
        await shows(pilot, "update 1", "2 s ago", "0.900 H")

    drive(WatchApp([watched_run(aggregator)]), script)


def test_a_picture_that_grows_old_is_kept_and_marked_and_the_source_comes_back():
    clock = Clock(NOW + 2)
    good, gone = (
        FetchedSnapshot(ratio_run(0.9).snapshot()),
        UnreachableError("Connection refused (is the run up?)"),
    )
    source = ScriptedSource(good)

    async def script(pilot):
        await shows(pilot, "update 1")
        source.outcomes = [gone]
        reads = source.reads
        await until_async(lambda: source.reads > reads + 1, pilot)
        clock.now += 75
        await shows(
            pilot, "stale", "this picture is 1 min old: Connection refused", "trying again in", "1.248 H"
        )
        source.outcomes = [FetchedSnapshot(ratio_run(0.2).snapshot())]
        await shows(pilot, "0.277 C")
        assert "stale" not in text(pilot.app)

    drive(WatchApp([watched(source, clock)]), script)


def test_a_run_that_said_it_ended_is_not_called_stale():
    aggregator = ratio_run(0.9)
    aggregator.set_run_state(RunState.COMPLETED)
    source = ScriptedSource(FetchedSnapshot(aggregator.snapshot()), UnreachableError("Connection refused"))

    async def script(pilot):
        await shows(pilot, "■ completed", "ended", "this is its last picture")

    drive(WatchApp([watched(source)]), script)


def test_nobody_there_says_why_and_keeps_trying():
    source = ScriptedSource(UnreachableError("its certificate is not trusted"))

    async def script(pilot):
        await shows(pilot, "no data", "its certificate is not trusted", "trying again in")
        assert "ACTION HEADS" in str(panel(pilot.app).border_title)
        await until_async(lambda: source.reads > 2, pilot)

    drive(WatchApp([watched(source)]), script)


def test_whatever_a_source_raises_the_panel_stays():
    source = ScriptedSource(RuntimeError("a bug\nof two lines"))

    async def script(pilot):
        await shows(pilot, "RuntimeError: a bug of two lines")
        await pilot.press("question_mark", "escape")
        assert isinstance(pilot.app.screen, RunScreen)

    drive(WatchApp([watched(source)]), script)


class Stuck:
    """A source whose reads hang until they are released."""

    name = "http://stuck:1/metrics"

    def __init__(self):
        self.release = threading.Event()
        self.reads = 0

    def read(self):
        self.reads += 1
        self.release.wait(300)
        raise UnreachableError("released")


def drive_stuck(timeout, script):
    """Run ``script(pilot, source)`` against a source that hangs and a panel that waits for ``timeout`` seconds."""
    source = Stuck()
    run = watched(source)
    run._timeout = timeout
    try:
        drive(WatchApp([run]), lambda pilot: script(pilot, source))
    finally:
        source.release.set()


def test_the_screen_is_there_while_a_server_has_not_answered_yet():
    async def script(pilot, source):
        await shows(pilot, "connecting")
        await pilot.press("l")
        source.release.set()
        await shows(pilot, "released")

    drive_stuck(300.0, script)


@pytest.mark.slow
def test_a_server_that_never_answers_is_named_and_not_asked_again():
    async def script(pilot, source):
        await pilot.press("l")
        await shows(pilot, "no answer within")
        await pilot.pause(0.5)
        assert source.reads == 1, "a look that does not come back is not started again"
        source.release.set()
        await shows(pilot, "released")

    drive_stuck(0.0, script)  # the grace, a second, is what is left
