"""What the dashboards say of worlds of runs: eight that differ, two hundred, none, young, over; with rules and without."""

import pytest

from rl_dashboards import style
from rl_training.action_space import HEAD_NAMES
from stack.processes import Binaries, Stack
from tests.support.shown import column, look, panel_of, rows, tile
from tests.support.waiting import until
from tests.support.worlds import EXPLODING, FLEET_SIZE

pytestmark = pytest.mark.stack
RUNS = "Runs, what pages first"
COUNTS = ("Runs that page", "Exploding", "Collapsed", "Low", "Failed, lost", "Stalled", "Running", "Ended")


def test_prometheus_finds_the_folder_of_targets_that_it_watches(prometheus, tmp_path):
    with Stack(tmp_path, Binaries(prometheus=prometheus)) as stack:
        stack.start_prometheus()
        assert "no such file or directory" not in stack.log_path("prometheus").read_text()
        (stack.folder / "prometheus/targets").rmdir()
    with Stack(tmp_path / "broken", Binaries(prometheus=prometheus)) as broken:
        (broken.folder / "prometheus/targets").rmdir()
        broken.start_prometheus()
        until(lambda: "no such file or directory" in broken.log_path("prometheus").read_text(), seconds=20)


def order(server, cluster):
    """The runs of a cluster as Fleet's table lists them, from the top."""
    ref = column("rl-fleet", RUNS, "rank")
    ranked = rows(server, "rl-fleet", RUNS, ref, cluster=cluster)
    return [
        row["metric"]["run"].split("/")[2] for row in sorted(ranked, key=lambda row: float(row["value"][1]))
    ]


def cells(server, cluster):
    """Words of the verdicts in Fleet's table, by run and head."""
    found = rows(server, "rl-fleet", RUNS, "L", cluster=cluster)
    return {(row["metric"]["run_id"], row["metric"]["head"]): row["metric"]["verdict"] for row in found}


def counts(server, cluster):
    return {title: tile(server, "rl-fleet", title, cluster=cluster) for title in COUNTS}


def test_the_exploding_runs_are_the_first_three_of_two_hundred(worlds):
    names = [f"run-{number:03}" for number in EXPLODING]
    listed_first = order(worlds.ruled, "fleet")
    assert sorted(listed_first[:3]) == names
    assert len(listed_first) == FLEET_SIZE
    shown = counts(worlds.ruled, "fleet")
    assert shown["Runs that page"] == ("▲ 3", style.RED)
    assert shown["Exploding"] == ("✱ 3", style.RED)
    assert shown["Collapsed"] == ("0", style.DIM)
    of_heads = cells(worlds.ruled, "fleet")
    assert {key for key, word in of_heads.items() if word == "✱ exploding"} == {
        (name, "style") for name in names
    }
    assert len(of_heads) == FLEET_SIZE * len(HEAD_NAMES)


VERDICTS = {
    ("a-well", "op"): "● healthy",
    ("b-collapsed", "blueprint"): "▲ collapsed",
    ("c-low", "tempo"): "◆ low",
    ("d-exploding", "style"): "✱ exploding",
    ("e-starved", "alpha_target"): "▽ starved",
    ("e-starved", "alpha_speed"): "◇ no choice",
    ("f-settled", "slot"): "■ settled",
    ("g-dead", "alpha_curve"): "✖ dead",
    ("h-diluted", "slot"): "● healthy",
}


def test_each_of_eight_runs_says_what_it_has(worlds):
    found = cells(worlds.ruled, "eight")
    assert {key: found[key] for key in VERDICTS} == VERDICTS
    assert order(worlds.ruled, "eight")[:5] == ["d-exploding", "g-dead", "b-collapsed", "c-low", "e-starved"]
    shown = counts(worlds.ruled, "eight")
    assert shown["Runs that page"] == ("▲ 3", style.RED)
    assert shown["Collapsed"] == ("▲ 2", style.RED)
    assert shown["Low"] == ("◆ 2", style.YELLOW)
    assert shown["Running"][0] == "8"


@pytest.mark.parametrize(("run", "head"), VERDICTS)
def test_a_tile_a_timeline_and_a_cell_give_one_colour(worlds, run, head):
    selected = {"cluster": "eight", "namespace": "", "run_id": run, "head": head}
    symbol, colour = next(look for look in style.VERDICTS.values() if look[0] == VERDICTS[run, head])
    if run == "a-well":
        symbol = style.STATES["confused"]
    of_tile = tile(worlds.ruled, "rl-heads", "$head", "B", "state", **selected)
    (row,) = rows(worlds.ruled, "rl-heads", "Verdict and state of each head", **selected)
    assert of_tile == look(panel_of("rl-heads", "Verdict and state of each head"), float(row["value"][1]))
    assert of_tile == (symbol, colour)


def test_a_diluted_run_has_its_weakest_head_below_the_total(worlds):
    selected = {"cluster": "eight", "namespace": "", "run_id": "h-diluted", "head": "slot"}
    title = "All heads together beside the lowest"
    total, weakest = (
        float(rows(worlds.ruled, "rl-heads", title, ref, **selected)[0]["value"][1]) for ref in "AB"
    )
    assert weakest <= total


def test_without_rules_nothing_is_green_and_everything_says_so(worlds):
    shown = counts(worlds.bare, "fleet")
    of_rules = ("Runs that page", "Exploding", "Collapsed", "Low")
    assert {shown[title][0] for title in of_rules} == {"no rules loaded"}
    assert style.GREEN not in {colour for _, colour in shown.values()}
    assert cells(worlds.bare, "fleet") == {}
    selected = {"cluster": "eight", "namespace": "", "run_id": "b-collapsed"}
    for head in HEAD_NAMES:
        ratio = tile(worlds.bare, "rl-heads", "$head", "A", head=head, **selected)
        word, colour = tile(worlds.bare, "rl-heads", "$head", "B", "state", head=head, **selected)
        assert ratio == ("no rules loaded", style.DIM)
        assert colour != style.GREEN
        assert word in style.STATES.values(), "the state alone"
    assert tile(worlds.bare, "rl-heads", "Pages", **selected) == ("no rules loaded", style.DIM)
    for uid, of_one in (("rl-heads", selected), ("rl-fleet", {})):
        (row,) = rows(worlds.bare, uid, "Alerts firing", **of_one)
        assert row["metric"]["alertname"] == "no alert rules loaded: nothing can fire"


def test_without_rules_pipeline_is_red(worlds):
    (row,) = rows(worlds.bare, "rl-pipeline", "Watchdog last seen")
    assert look(panel_of("rl-pipeline", "Watchdog last seen"), float(row["value"][1])) == (
        "✖ no rules loaded", style.RED)  # fmt: skip
    word, colour = tile(worlds.ruled, "rl-pipeline", "Rules loaded")
    assert word.startswith("● ")
    assert colour == style.GREEN


def test_before_the_first_update_nothing_is_known(worlds):
    shown = counts(worlds.ruled, "young")
    assert {shown[title][0] for title in ("Exploding", "Collapsed", "Low")} == {"before first update"}
    assert style.GREEN not in {colour for _, colour in shown.values()}
    assert cells(worlds.ruled, "young") == {}
    selected = {"cluster": "young", "namespace": "", "run_id": "young", "head": "op"}
    assert tile(worlds.ruled, "rl-heads", "$head", **selected) == ("before first update", style.DIM)


def test_runs_that_are_over_are_not_green(worlds):
    shown = counts(worlds.ruled, "over")
    assert shown["Failed, lost"] == ("✖ 2", style.RED)
    assert shown["Ended"][0] == "1"
    assert {shown[title][0] for title in ("Exploding", "Collapsed", "Low")} == {"no run goes on"}
    assert style.GREEN not in {colour for _, colour in shown.values()}
    found = cells(worlds.ruled, "over")
    assert found["failed", "op"] == "▲ collapsed, when it ended"
    assert found["completed", "op"] == "● healthy, when it ended"
    assert style.cell_mapping().options["● healthy, when it ended"].color == style.DIM
    selected = {"cluster": "over", "namespace": "", "run_id": "lost", "head": "op"}
    assert tile(worlds.ruled, "rl-heads", "$head", "B", "state", **selected) == ("● healthy", style.DIM)
    assert order(worlds.ruled, "over")[-1] == "completed"


def test_without_runs_no_panel_is_green(worlds):
    shown = counts(worlds.ruled, "nowhere")
    assert {text for text, _ in shown.values()} == {"no run", "no run goes on"}
    assert style.GREEN not in {colour for _, colour in shown.values()}


def test_the_alerts_of_the_fleet_begin_with_the_most_urgent(worlds):
    found = rows(worlds.ruled, "rl-fleet", "Alerts firing", cluster="eight|fleet")
    urgency = {row["metric"]["alertname"]: row["metric"]["urgency"] for row in found}
    assert urgency["RLPolicyHeadGradientsExploding"] == "1"
    assert not [
        row
        for row in found
        if row["metric"]["run_id"] == "g-dead" and row["metric"]["alertname"] != "RLPolicyHeadDead"
    ]
    missing = panel_of("rl-fleet", "Alerts firing")["fieldConfig"]["overrides"]
    assert all({"id": "noValue", "value": "-"} in override["properties"] for override in missing)
