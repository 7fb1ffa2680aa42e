"""The screens, dot by dot, and the picture of the README. After a wanted change: pytest tests/exporter/panel/test_svg.py --golden."""

import asyncio
import re
from pathlib import Path

import pytest
import textual

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.client.fetch import FetchedSnapshot, UnreachableError
from rl_exporter.panel.app import WatchApp
from tests.support import ROOT
from tests.support.panel_runs import (
    NOW,
    Clock,
    ScriptedSource,
    drill,
    many_heads,
    ratio_run,
    run_of,
    watched,
    watched_run,
)
from tests.support.waiting import until_async

GOLDEN = Path(__file__).parent / "golden"
PINNED = re.search(r"^textual==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]

pytestmark = pytest.mark.skipif(textual.__version__ != PINNED, reason=f"pictures are of textual {PINNED}")


def seen(outcomes, clock=None):
    """A run whose source has given all ``outcomes`` by the time that the app starts."""
    clock = clock or Clock(NOW + 2)
    run = watched(ScriptedSource(*outcomes), clock, interval=3600)

    async def look():
        for _ in outcomes:
            await run.poll()

    asyncio.run(look())
    return run


def every_state():
    aggregator = run_of(
        {
            "exploding": HeadMeasurement(1.1, 0.8, 1.0, 1.0, 7.25, 1.5, inf_steps=1),
            "dead": HeadMeasurement(0.02, 0.03, 1.0, 1.0, 0.001, 1.0),
            "deterministic": HeadMeasurement(0.05, 0.04, 0.5, 0.6, 0.2, 1.05),
            "no_choice": HeadMeasurement(0.9, None, 0.0, 0.3, 0.0, 1.0),
            "confused": HeadMeasurement(1.35, 0.97, 1.0, 1.0, 0.4, 1.1),
            "healthy": HeadMeasurement(1.0, 0.7, 1.0, 1.0, 0.4, 1.1),
            "unsettled": HeadMeasurement(0.5, 0.36, 1.0, 1.0, 0.4, 1.1),
        },
        multipliers={"healthy": 1.3},
        kl_divergence=0.01,
        clipped_share=0.2,
        episode_return=-3.25,
    )
    return seen([FetchedSnapshot(aggregator.snapshot())])


def verdicts():
    """Three heads of low and of sufficient entropy: one has collapsed, one has settled, one explores."""
    actions = ("NOOP", "CONV_LIGHT", "DEPTHWISE", "NORM")
    names = ("blueprint", "slot", "op")
    aggregator = SanctumAggregator(
        Heads([Head(name, 4, actions=actions) for name in names]), RunInfo("verdicts"), clock=lambda: NOW
    )
    measured = {
        "blueprint": HeadMeasurement(
            *(0.06, 0.04, 1.0, 1.0, 0.02, 1.01),
            state_information=0.003,
            advantage_margin_t=9.2,
            action_shares=(0.01, 0.01, 0.97, 0.01),
        ),
        "slot": HeadMeasurement(
            *(0.07, 0.05, 1.0, 1.0, 0.2, 1.05), state_information=0.912, action_shares=(0.3, 0.35, 0.2, 0.15)
        ),
        "op": HeadMeasurement(
            *(1.0, 0.72, 1.0, 1.0, 0.3, 1.1), state_information=0.301, action_shares=(0.3, 0.2, 0.2, 0.3)
        ),
    }
    for _ in range(3):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads=measured, episode_return=2.5))
    return seen([FetchedSnapshot(aggregator.snapshot())])


def stale():
    clock = Clock(NOW + 2)
    run = seen(
        [FetchedSnapshot(ratio_run(0.4).snapshot()), UnreachableError("Connection refused (is the run up?)")],
        clock,
    )
    clock.now += 75
    run._next_poll = clock() + 4
    return run


def waiting():
    fresh = SanctumAggregator(Heads.of({"op": 6, "slot": 3}), RunInfo("fresh"), clock=lambda: NOW)
    return seen([FetchedSnapshot(fresh.snapshot())])


def fleet():
    runs = [
        watched_run(ratio_run(ratio, name), f"http://{name}:28008/metrics")
        for name, ratio in (("fine", 0.9), ("bad", 0.1))
    ]
    return [*runs, watched_run(many_heads(40), "http://wide:28008/metrics")]


SCENES = {
    "drill": (lambda: [seen(list(map(FetchedSnapshot, drill())))], (120, 20), "blueprint"),
    "states-80": (lambda: [every_state()], (80, 40), "exploding"),
    "verdicts-100": (lambda: [verdicts()], (100, 30), "blueprint"),
    "stale-60": (lambda: [stale()], (60, 24), "stale"),
    "waiting-80": (lambda: [waiting()], (80, 10), "waiting"),
    "list-100": (fleet, (100, 10), "bad"),
}


def picture(scene):
    make_runs, size, word = SCENES[scene]
    runs = make_runs()

    async def main():
        app = WatchApp(runs)
        app._start_and_stop_polling = lambda: None  # the runs have been looked at; nothing changes any more
        for run in app.runs:
            if run.snapshot is None:
                await run.poll()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            app.refresh_screen()
            await until_async(lambda: word in app.picture(), pilot)
            await pilot.pause(0.2)
            return app.picture() + "\n"

    return asyncio.run(main())


def path_of(scene):
    return ROOT / "docs/panel.svg" if scene == "drill" else GOLDEN / f"{scene}.svg"


@pytest.mark.parametrize("scene", SCENES)
def test_the_screen_is_the_golden_one(scene, request):
    svg = picture(scene)
    if request.config.getoption("--golden"):
        path_of(scene).write_text(svg)
    assert svg == path_of(scene).read_text()


def test_that_comparison_sees_one_digit():
    golden = path_of("states-80").read_text()
    assert golden.count("7.250") == 2
    assert picture("states-80") != golden.replace("7.250", "7.251")


def test_pictures_load_nothing_and_the_readme_shows_one():
    for scene in SCENES:
        svg = path_of(scene).read_text()
        assert not re.search(r"@font-face|@import|url\((?!#)|href=|<script|<image", svg)
    assert "](docs/panel.svg)" in (ROOT / "README.md").read_text()
