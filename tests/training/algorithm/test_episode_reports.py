"""What environments say of their episodes arrives whole, from vectors of any kind and over any number of ranks."""

import logging
import math
from functools import partial

import numpy as np
import pytest

from rl_exporter.environment_metrics import MOST_SERIES, series_of
from rl_training.action_space import Blueprint, Operation, Slot
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.episodes import WINDOW, EpisodeReports, EpisodeWindow, Finished
from rl_training.environments.adapter import make_environment
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.metrics import episode_metrics
from rl_training.environments.growing.vector import GrowingVectorEnv
from rl_training.environments.report import Report, reports_of
from rl_training.ranks import SINGLE_PROCESS
from rl_training.run.cli import main
from tests.support import ROOT
from tests.support.agents import setup
from tests.support.playing import SMALL, random_actions
from tests.support.ranks import at_once, thread_ranks
from tests.support.reporting_environment import register


def collectors(size, total=6, **arguments):
    found = []
    for ranks in thread_ranks(size) if size > 1 else [SINGLE_PROCESS]:
        env, agent, _ = setup(register(), envs=total // size, arguments=arguments)
        found.append(RolloutCollector(env, agent.network, seed=3, device=agent.device, ranks=ranks))
    return found


def test_a_vector_hands_on_whole_reports_at_the_end_of_an_episode_only():
    """Stacked by Gymnasium, the 3.5 of one copy would be 3 beside the 2 of another."""
    environment = make_environment(register(), 3, {})
    environment.reset(3)
    seen = []
    for _ in range(4):
        environment.step(np.zeros((3, 1), np.int64))
        seen.append({index: report.metrics["steps"] for index, report in environment.reports.items()})
        assert all(report.drawing == f"copy {index}" for index, report in environment.reports.items())
    assert seen == [{}, {0: 2}, {1: 3.5}, {0: 2, 2: 4}]


def test_nothing_is_stacked_but_the_report_of_an_episode_that_ended():
    environment = make_environment(register(), 3, {})
    assert environment.vector.reset(seed=3)[1] == {}
    *_, infos = environment.vector.step(np.zeros(3, np.int64))
    assert infos == {}
    *_, infos = environment.vector.step(np.zeros(3, np.int64))
    assert set(infos) == {"final_obs", "_final_obs", "final_info", "_final_info"}
    assert set(infos["final_info"]) == {"rl_report", "_rl_report"}


def test_episodes_have_their_true_lengths_and_means():
    (collector,) = collectors(1, total=3)
    collector.collect(12)  # 6 episodes of 2 steps, 4 of 3, 3 of 4
    finished = collector.finished
    assert finished.episode_length == pytest.approx((6 * 2 + 4 * 3 + 3 * 4) / 13)
    assert finished.episode_return == finished.episode_length, "with a reward of 1 a step"
    assert finished.metrics == {
        "steps": pytest.approx((6 * 2 + 4 * 3.5 + 3 * 4) / 13),
        'copies_ratio{copy="0"}': pytest.approx(6 / 13),
        'copies_ratio{copy="1"}': pytest.approx(4 / 13),
        'copies_ratio{copy="2"}': pytest.approx(3 / 13),
    }
    collector.collect(2)  # one more of 2
    assert finished.metrics["steps"] == pytest.approx((7 * 2 + 4 * 3.5 + 3 * 4) / 14)
    assert collector.reports.best == (4.0, "copy 2"), "the best, not the last"


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_report_what_one_process_would(size):
    (one,), many = collectors(1), collectors(size)
    for steps in (5, 7, 1):
        one.collect(steps)
        at_once([partial(each.collect, steps) for each in many])
        for collector in many:
            assert collector.finished.metrics == one.finished.metrics
            assert collector.progress() == one.progress()
    assert len(one.finished.metrics) == 4


def test_a_checkpoint_keeps_the_window():
    (collector,) = collectors(1)
    collector.collect(9)
    (other,) = collectors(1)
    other.restore(collector.progress())
    assert other.finished.metrics == collector.finished.metrics
    assert other.finished.episode_length == collector.finished.episode_length
    former = {key: value for key, value in collector.progress().items() if key in {"episodes", "returns"}}
    (older,) = collectors(1)
    older.restore(former)  # a checkpoint of a version without them
    assert older.episode_return == collector.episode_return
    assert older.finished.episode_length is older.finished.metrics is None


def test_only_the_last_episodes_count():
    window = EpisodeWindow()
    window.extend(Finished(step, 0, float(step), step, {"x": float(step)}) for step in range(WINDOW + 2))
    assert (
        window.episode_return == window.episode_length == window.metrics["x"] == np.mean(range(2, WINDOW + 2))
    )


def test_bad_numbers_are_one_line_each_and_the_run_goes_on(caplog, tmp_path):
    caplog.set_level(logging.WARNING)
    arguments = ["--env", register(), "--env-arg", "bad=true", "--num-envs", "3", "--rollout-steps", "8"]
    arguments += ["--updates", "3", "--listen", "127.0.0.1:0", "--linger", "0", "--quiet"]
    assert main([*arguments, "--log-json", str(tmp_path / "log")]) == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert {line.split("'")[1] for line in lines} == {"Bad Name", "text", "list", "ragged"}
    assert '"rl_environment_steps": ' in (tmp_path / "log").read_text().splitlines()[-1]
    assert "text" not in (tmp_path / "log").read_text()


def test_an_environment_that_reports_nothing_costs_no_exchange(monkeypatch):
    exchanges = []

    class Counting:
        rank, size = 0, 1

        def gather(self, row):
            exchanges.append(row)
            return row.unsqueeze(0)

    env, agent, _ = setup("heads", envs=2)
    collector = RolloutCollector(env, agent.network, seed=0, device=agent.device, ranks=Counting())
    collector.collect(40)
    assert collector.finished.metrics == {}
    assert len(exchanges) == 1


def last_info(environment, seed=0):
    rng, over = np.random.default_rng(seed), False
    environment.reset(seed=seed)
    while not over:
        action = random_actions(environment.action_masks()[None], rng)[0]
        _, _, over, _, info = environment.step(action)
    return info


def test_the_growing_network_reports_what_grew():
    environment = GrowingNetworkEnv(**SMALL)
    metrics = last_info(environment)["metrics"]
    assert metrics["validation_accuracy_ratio"] == environment.accuracy
    network, slots = environment._network, environment.slots
    grown = [network.parameters_of(index) for index in Slot]
    assert metrics["grown_parameters"] == sum(grown)
    assert [size > 0 for size in grown] == [slot.occupied for slot in slots]
    shares = {key: value for key, value in metrics.items() if key.startswith("modules_ratio")}
    assert shares == {
        f'modules_ratio{{blueprint="{slot.blueprint.name if slot.occupied else "NONE"}",slot="{name.name}"}}': 1.0
        for name, slot in zip(Slot, slots, strict=True)
    }
    counts = [value for key, value in metrics.items() if key.startswith("operations")]
    assert len(counts) == len(Operation)
    assert sum(counts) == SMALL["episode_steps"]


def test_an_action_that_is_not_allowed_counts_as_the_wait_that_it_is():
    environment = GrowingNetworkEnv(**SMALL)
    environment.reset(seed=0)
    for _ in range(SMALL["episode_steps"]):
        *_, info = environment.step(np.array([Operation.FOSSILIZE, 0, 0, 0, 0, 0, 0, 0]))
    assert info["metrics"]['operations{operation="WAIT"}'] == SMALL["episode_steps"]
    assert info["metrics"]['operations{operation="FOSSILIZE"}'] == 0
    assert info["metrics"]['modules_ratio{blueprint="NONE",slot="R0C0"}'] == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_vector_reports_what_the_single_environments_would(workers):
    vector = GrowingVectorEnv(3, workers=workers, **SMALL)
    try:
        vector.reset(seed=[4, 5, 6])
        rng = np.random.default_rng(1)
        actions, reports = [], {}
        for _ in range(SMALL["episode_steps"]):
            actions.append(random_actions(vector.action_masks(), rng))
            *_, infos = vector.step(actions[-1])
            reports = reports_of(infos, np.ones(3, bool)) if infos else {}
    finally:
        vector.close()
    for index, seed in enumerate((4, 5, 6)):
        single = GrowingNetworkEnv(**SMALL)
        single.reset(seed=seed)
        for action in actions:
            *_, info = single.step(action[index])
        assert reports[index] == Report(info["metrics"], info["drawing"])


def every_series():
    """All series that the growing network can have."""
    from rl_training.environments.growing.lifecycle import DORMANT, SlotState, Stage

    states = [DORMANT, *(SlotState(Stage.HOLDING, blueprint=one) for one in Blueprint if one)]
    return {key for state in states for key in episode_metrics((state,) * 3, 0.5, 1, {})}


def test_the_growing_network_has_room_for_every_series():
    keys = every_series()
    assert len(keys) == 2 + len(Slot) * len(Blueprint) + len(Operation) == 47 <= MOST_SERIES
    reports = EpisodeReports()
    assert reports.take(Report(dict.fromkeys(keys, 1.0)), 0.0).keys() == keys


def test_a_return_that_is_not_finite_is_not_the_best():
    reports = EpisodeReports()
    for episode_return in (math.nan, math.inf, 1.0, math.inf, 2.0, math.nan):
        reports.take(Report({}, f"drawing of {episode_return}"), episode_return)
    assert reports.best == (2.0, "drawing of 2.0")


def test_the_page_lists_what_the_growing_network_reports():
    page = (ROOT / "docs/metrics.md").read_text()
    for key in every_series():
        series = series_of(key)
        labels = ", ".join(label for label, _ in series.labels)
        assert f"| `rl_environment_{series.name}` | {labels} |".replace("|  |", "| |") in page
