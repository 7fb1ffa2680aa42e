"""Many runs in one panel: a list, worst first, a directory that is followed, and servers that are no runs."""

import asyncio
import contextlib
import json
import re

import pytest
from textual.widgets import DataTable

from rl_exporter import HeadMeasurement, ListenAddress, MetricsServer, PPOUpdatePayload
from rl_exporter.cli.main import parser
from rl_exporter.client.fetch import FetchedSnapshot, UnreachableError
from rl_exporter.panel.app import WatchApp
from rl_exporter.panel.observed_run import worst_first
from rl_exporter.panel.screens import RunListScreen, RunScreen
from rl_exporter.panel.watch import _selection
from tests.support.bad_servers import BAD, answering
from tests.support.panel_pilot import drive, rows, shows, text
from tests.support.panel_runs import ScriptedSource, ratio_run, run_of, watched, watched_run
from tests.support.waiting import until_async


def fleet():
    ratios = {"fine": 0.9, "bad": 0.1, "low": 0.4, "worse": 0.05}
    runs = [watched_run(ratio_run(ratio, name), f"http://{name}:1/metrics") for name, ratio in ratios.items()]
    return [*runs, watched(ScriptedSource(UnreachableError("refused"), name="http://gone:1/metrics"))]


def test_several_runs_are_listed_worst_first_and_enter_opens_one():
    app = WatchApp(fleet())

    async def script(pilot):
        assert isinstance(app.screen, RunListScreen)
        await until_async(lambda: [row[1] for row in rows(app)] == ["worse", "bad", "-", "low", "fine"], pilot)
        statuses = [row[0] for row in rows(app)]
        assert statuses == ["critical", "critical", "no data", "warning", "healthy"]
        assert rows(app)[0][4] == "op 0.050 C"
        await pilot.press("down", "down", "down", "enter")
        assert isinstance(app.screen, RunScreen)
        await shows(pilot, "low   ▶ running")
        await pilot.press("escape")
        assert isinstance(app.screen, RunListScreen)
        assert app.screen.query_one(DataTable).cursor_row == 3

    drive(app, script)


def test_the_cursor_stays_on_its_run_when_the_order_changes():
    changing = ScriptedSource(
        FetchedSnapshot(ratio_run(0.9, "changing").snapshot()), name="http://changing:1/metrics"
    )
    app = WatchApp([watched_run(ratio_run(0.4, "low"), "http://low:1/metrics"), watched(changing)])

    async def script(pilot):
        await until_async(lambda: [row[1] for row in rows(app)] == ["low", "changing"], pilot)
        await pilot.press("down")
        changing.outcomes = [FetchedSnapshot(ratio_run(0.1, "changing").snapshot())]
        await until_async(lambda: [row[1] for row in rows(app)] == ["changing", "low"], pilot)
        assert app.screen.query_one(DataTable).cursor_row == 0
        await pilot.press("enter")
        await shows(pilot, "changing   ▶ running")

    drive(app, script)


def test_the_cursor_is_on_the_worst_run_until_somebody_moves_it():
    changing = ScriptedSource(
        FetchedSnapshot(ratio_run(0.9, "changing").snapshot()), name="http://changing:1/metrics"
    )
    app = WatchApp([watched_run(ratio_run(0.4, "low"), "http://low:1/metrics"), watched(changing)])

    async def script(pilot):
        await until_async(lambda: [row[1] for row in rows(app)] == ["low", "changing"], pilot)
        changing.outcomes = [FetchedSnapshot(ratio_run(0.1, "changing").snapshot())]
        await until_async(lambda: [row[1] for row in rows(app)] == ["changing", "low"], pilot)
        await pilot.press("enter")
        await shows(pilot, "changing   ▶ running")

    drive(app, script)


def test_worst_first_among_equals_is_the_weakest():
    async def look():
        runs = fleet()
        for run in runs:
            await run.poll()
        return [run.source.name.split(":")[1][2:] for run in worst_first(runs)]

    assert asyncio.run(look()) == ["worse", "bad", "gone", "low", "fine"]


def test_a_run_that_settled_stands_behind_the_healthy_ones_and_says_so():
    measured = {"op": HeadMeasurement(0.05, 0.04, 1.0, 1.0, 0.2, state_information=0.9)}
    settled = watched_run(run_of(measured, run_id="solved"), "http://solved:1/metrics")
    app = WatchApp([settled, watched_run(ratio_run(0.9, "fine"), "http://fine:1/metrics")])

    async def script(pilot):
        await until_async(lambda: [row[1] for row in rows(app)] == ["fine", "solved"], pilot)
        assert [row[0] for row in rows(app)] == ["healthy", "healthy"]
        assert rows(app)[1][4] == "op 0.040 C settled"

    drive(app, script)


def test_a_directory_of_targets_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("rl_exporter.panel.app.RESCAN_SECONDS", 0.05)
    with (
        MetricsServer(ratio_run(0.9, "first").snapshot, ListenAddress(port=0)) as first,
        MetricsServer(ratio_run(0.1, "second").snapshot, ListenAddress(port=0)) as second,
    ):

        def listed(*servers):
            text = json.dumps([{"targets": [str(server.address) for server in servers]}])
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").rename(tmp_path / "runs.json")

        runs = _selection(parser().parse_args(["watch", "--targets", str(tmp_path), "--interval", "0.1"]))
        app = WatchApp((), runs.discover)

        async def script(pilot):
            assert isinstance(app.screen, RunListScreen)
            listed(first)
            await until_async(lambda: [row[1] for row in rows(app)] == ["first"], pilot)
            listed(first, second)
            await until_async(lambda: [row[1] for row in rows(app)] == ["second", "first"], pilot)
            (tmp_path / "broken.yml").write_text("[")
            listed(second)
            await until_async(lambda: [row[1] for row in rows(app)] == ["second"], pilot)
            await until_async(lambda: any("broken.yml" in finding.text for finding in app.notices()), pilot)

        drive(app, script)


def test_a_screen_says_that_its_run_is_no_longer_listed_and_goes_on_with_it_later(tmp_path, monkeypatch):
    """A file that is broken for a while, as while somebody writes it, or from which the run has been taken."""
    monkeypatch.setattr("rl_exporter.panel.app.RESCAN_SECONDS", 0.05)
    run = ratio_run(0.9, "the run")
    with MetricsServer(run.snapshot, ListenAddress(port=0)) as server:
        good = json.dumps([{"targets": [str(server.address)]}])
        file = tmp_path / "runs.json"
        file.write_text(good)
        runs = _selection(parser().parse_args(["watch", "--targets", str(tmp_path), "--interval", "0.1"]))
        app = WatchApp((), runs.discover)

        async def script(pilot):
            await until_async(lambda: [row[1] for row in rows(app)] == ["the run"], pilot)
            await pilot.press("enter")
            await shows(pilot, "update 1 ")
            for updates, unlisted in enumerate((good[:-1], "[]"), 1):
                file.write_text(unlisted)
                await shows(pilot, "stale", "the run is no longer listed")
                file.write_text(good)
                await until_async(lambda: "stale" not in text(app), pilot)
                run.handle_ppo_update(PPOUpdatePayload())
                await shows(pilot, f"update {updates + 1} ")

        drive(app, script)


def test_a_run_behind_a_real_server_with_bad_neighbours(tmp_path):
    """The panel of one run is not held up by an address where nobody answers."""
    with MetricsServer(ratio_run(0.4, "real").snapshot, ListenAddress(port=0)) as server:
        options = parser().parse_args(["watch", server.url, "no-such-host.invalid", "--interval", "0.1"])
        app = WatchApp(_selection(options).discover()[0])

        async def script(pilot):
            await until_async(lambda: [row[1] for row in rows(app)] == ["-", "real"], pilot)

        drive(app, script)


@pytest.mark.slow
def test_bad_servers_are_named_in_the_panel_and_hold_nothing_up():
    with contextlib.ExitStack() as stack:
        addresses = {name: stack.enter_context(answering(talk)) for name, (talk, _) in BAD.items()}
        real = stack.enter_context(MetricsServer(ratio_run(0.4, "real").snapshot, ListenAddress(port=0)))
        options = parser().parse_args(["watch", real.url, *addresses.values(), "--timeout", "3"])
        app = WatchApp(_selection(options).discover()[0])

        async def script(pilot):
            await until_async(lambda: all(run.problem or run.snapshot for run in app.runs), pilot)
            found = {run.source.name: run.problem for run in app.runs}
            assert found.pop(f"{real.url}/metrics") is None
            for name, address in addresses.items():
                assert re.search(BAD[name][1], found[f"http://{address}/metrics"])
            assert len(rows(app)) == len(BAD) + 1
            await until_async(lambda: rows(app)[0][0] == "no data" and rows(app)[-1][1] == "real", pilot)
            app.screen.query_one(DataTable).move_cursor(row=0)
            await pilot.press("enter")
            # Which of them is first depends on its port, and the longer reasons take two lines.
            await until_async(lambda: re.search(r"no data .*trying\s+again\s+in", text(app), re.DOTALL), pilot)
            await pilot.press("escape")
            assert isinstance(app.screen, RunListScreen)

        drive(app, script)
