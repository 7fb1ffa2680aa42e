"""The panel driven by Textual's pilot, as a person would."""

import math

import pytest
from textual.containers import VerticalScroll
from textual.widgets import Footer

from rl_exporter import (
    HeadMeasurement,
    HeadState,
)
from rl_exporter.client.fetch import FetchedSnapshot
from rl_exporter.panel.app import WatchApp
from rl_exporter.panel.screens import HelpScreen, RunScreen
from tests.support.panel_pilot import drive, panel, shows, text
from tests.support.panel_runs import (
    STATES,
    ScriptedSource,
    drill,
    many_heads,
    ratio_run,
    run_of,
    watched,
    watched_run,
)
from tests.support.waiting import until_async


def show(aggregator, *words, size=(120, 40)):
    """The rendered text of a run's panel once it holds ``words``."""

    async def script(pilot):
        await shows(pilot, *words)
        return panel(pilot.app).render()

    return drive(WatchApp([watched_run(aggregator)]), script, size)


def colors_of(rendered, word):
    """Colours of the spans that begin where ``word`` does."""
    start = rendered.plain.index(word)
    return {str(span.style.color.name) for span in rendered.spans if span.start == start and span.style.color}


@pytest.mark.parametrize(
    ("ratio", "shown", "color"),
    [
        (1.0, "1.386 H", "green"),
        (math.nextafter(0.5, 1), "0.693 H", "green"),
        (0.5, "0.693 W", "yellow"),
        (math.nextafter(0.25, 1), "0.347 W", "yellow"),
        (0.25, "0.347 C", "red"),
        (0.0, "0.000 C", "red"),
    ],
)
def test_every_level_boundary(ratio, shown, color):
    rendered = show(run_of({"op": HeadMeasurement(ratio * math.log(4))}), shown)
    assert colors_of(rendered, shown) == {color}
    if ratio:
        assert colors_of(rendered, "█") == {color}


@pytest.mark.parametrize("state", HeadState)
def test_every_state(state):
    measurement, symbol, _ = STATES[state]
    show(run_of({"op": measurement}), f"{symbol} {state.value}")


def test_the_prefix_nan_and_counts_are_shown():
    measured = {
        "blueprint": HeadMeasurement(0.456, 0.4, 0.9, 0.9, 0.2, 1.25),
        "style": HeadMeasurement(1.0, 0.9, 0.9, 0.9, 0.2, 1.1, nan_steps=3, inf_gradients=1),
    }
    rendered = show(run_of(measured, multipliers={"blueprint": 1.3}), "1.3x0.456 W", "3 NaN 1 Inf", "1.250")
    assert "1.3x1.000" not in rendered.plain
    assert colors_of(rendered, "3 NaN") == {"red"}


def test_nan_from_a_strange_exporter_is_shown_without_a_level():
    from rl_exporter.client.parse import parse_snapshot
    from rl_exporter.collector import Renderer

    body = Renderer(ratio_run(0.9).snapshot).render("")[0].decode()
    for name in ("entropy_nats", "entropy_normalized_ratio", "choice_entropy_ratio", "gradient_norm"):
        start = body.index(f"rl_policy_head_{name}{{")
        end = body.index("\n", start)
        body = body[: body.rindex(" ", start, end)] + " NaN" + body[end:]
    broken = parse_snapshot(body)

    async def script(pilot):
        await shows(pilot, "NaN")
        entr = next(line for line in text(pilot.app).splitlines() if line.startswith("Entr"))
        assert entr.split() == ["Entr", "NaN"]
        assert panel(pilot.app).has_class("no_data")

    drive(WatchApp([watched(ScriptedSource(FetchedSnapshot(broken)))]), script)


@pytest.mark.parametrize("heads", [1, 8, pytest.param(40, marks=pytest.mark.slow)])
def test_any_number_of_heads_at_any_width(heads):
    async def script(pilot):
        for width in (200, 160, 120, 100, 80, 60):
            await pilot.resize_terminal(width, 24)
            await until_async(lambda width=width: pilot.app.screen.size.width == width, pilot)
            await until_async(lambda width=width: shown_whole(pilot.app, heads, width), pilot)
        if heads == 40:
            scroll = pilot.app.screen.query_one(VerticalScroll)
            await pilot.press("end")
            await until_async(lambda: scroll.scroll_y == scroll.max_scroll_y > 0, pilot)

    drive(WatchApp([watched_run(many_heads(heads))]), script, (240, 24))


def shown_whole(app, heads, width):
    """Whether every head is there, nothing is cut off, and what is higher than the screen can be scrolled."""
    lines, scroll = text(app).splitlines(), app.screen.query_one(VerticalScroll)
    names = {word for line in lines for word in line.split() if word.startswith("head_")}
    return (
        {f"head_{i}" for i in range(heads)} <= names
        and max(map(len, lines)) <= width - 4  # within border and padding
        and scroll.max_scroll_x == 0
        and (scroll.max_scroll_y > 0) == (panel(app).size.height + 2 > scroll.size.height)
    )


def test_pause_keeps_the_picture_until_it_ends():
    source = ScriptedSource(FetchedSnapshot(ratio_run(0.9).snapshot()))

    async def script(pilot):
        await shows(pilot, "update 1")
        await pilot.press("p")
        await shows(pilot, "paused")
        await pilot.pause(0.1)
        reads = source.reads
        source.outcomes = [FetchedSnapshot(ratio_run(0.2).snapshot())]
        await pilot.pause(0.3)
        assert source.reads == reads
        assert "1.248 H" in text(pilot.app)
        await pilot.press("r")
        await shows(pilot, "0.277 C", "paused")
        await pilot.press("p")
        await until_async(lambda: "paused" not in text(pilot.app), pilot)
        await until_async(lambda: source.reads > reads + 2, pilot)

    drive(WatchApp([watched(source)]), script)


def test_refresh_does_not_wait_for_the_interval():
    source = ScriptedSource(FetchedSnapshot(ratio_run(0.9).snapshot()))

    async def script(pilot):
        await shows(pilot, "update 1")
        source.outcomes = [FetchedSnapshot(ratio_run(0.2).snapshot())]
        await pilot.press("r")
        await shows(pilot, "0.277 C")

    drive(WatchApp([watched(source, interval=3600)]), script)


def test_legend_and_help():
    async def script(pilot):
        await shows(pilot, "C critical, at or below 0.25")
        await pilot.press("l")
        await until_async(lambda: "C critical" not in text(pilot.app), pilot)
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, RunScreen)
        assert pilot.app.screen.query_one(Footer)

    drive(WatchApp([watched_run(ratio_run(0.9))]), script)


def test_a_screenshot_is_saved_and_none_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def script(pilot):
        await shows(pilot, "update 1")
        await pilot.press("s")
        await pilot.press("s")
        await until_async(lambda: len(list(tmp_path.iterdir())) == 2, pilot)

    drive(WatchApp([watched_run(ratio_run(0.9, "../we ird"))]), script)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["-we-ird-update-1-2.svg", "-we-ird-update-1.svg"]
    assert "0.900" in (tmp_path / names[0]).read_text()


def test_a_directory_that_cannot_be_written_is_a_message(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def script(pilot):
        await shows(pilot, "update 1")
        await pilot.press("s")
        await until_async(lambda: [n.message for n in pilot.app._notifications] != [], pilot)
        (notification,) = pilot.app._notifications
        assert "No such file or directory" in notification.message

    drive(WatchApp([watched_run(ratio_run(0.9))]), script)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_quitting(key):
    app = WatchApp([watched_run(ratio_run(0.9))])

    async def script(pilot):
        await pilot.press(key)
        await until_async(lambda: not app.is_running)

    drive(app, script)
    assert app.return_code == 0


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "xterm", "COLORTERM": ""}])
def test_few_colours_use_those_of_the_terminal(monkeypatch, variable):
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    app = WatchApp([watched_run(ratio_run(0.2))])

    async def script(pilot):
        await shows(pilot, "0.277 C", "C critical, at or below 0.25")
        strips = [
            segment for line in panel(app).render_lines(panel(app).region.reset_offset) for segment in line
        ]
        colors = {segment.style.color for segment in strips if segment.style and segment.style.color}
        assert colors
        assert not [color for color in colors if color.triplet], "no colour but those of the terminal"
        shown = {color.name for color in colors} - {"default"}
        assert (shown == set()) == ("NO_COLOR" in variable)

    drive(app, script)


def test_the_drill_collapses_before_the_eyes():
    snapshots = list(drill())
    source = ScriptedSource(*map(FetchedSnapshot, snapshots))

    async def script(pilot):
        await shows(pilot, "update 40", "collapsed blueprint  choice entropy 0.008")
        history = next(line for line in text(pilot.app).splitlines() if line.startswith("History"))
        assert "▁" in history
        assert panel(pilot.app).has_class("critical")

    drive(WatchApp([watched(source, interval=0.02)]), script)


def test_a_tick_while_the_app_has_no_screen_changes_nothing():
    """Timers may still fire while it ends."""
    app = WatchApp([watched_run(run_of({"op": HeadMeasurement(1.0)}))])
    app._new_snapshot = True
    assert not app.screen_stack
    app._tick()
