"""The benchmark of the trainer: the same work on both sides, times that add up, and ratios of the same turn."""

import time

import pytest
import torch

from benchmarks.trainer import BEGIN, END, PART_UPDATES, UPDATES, Comparison, report
from benchmarks.trainer_speed.ours import OurTrainer
from benchmarks.trainer_speed.peers import Peer
from benchmarks.trainer_speed.setting import Cost, Setting
from benchmarks.trainer_speed.stopwatch import Stopwatch
from benchmarks.trainer_speed.worker import OURS, RECURRENT, Worker
from tests.support import ROOT

SMALL = Setting(8, environments=4, rollout_steps=4, epochs=2, minibatches=2)


@pytest.fixture(autouse=True)
def _global_generators_stay():
    """Stable-Baselines3 seeds the generators of the whole process."""
    with torch.random.fork_rng(devices=[]):
        yield


def weights(module, *names):
    parameters = dict(module.named_parameters())
    return {name: tuple(parameters[name].shape) for name in names}


def test_the_networks_have_the_same_sizes():
    ours, peer = OurTrainer(SMALL).agent.network, Peer(SMALL, recurrent=True)._model.policy
    lstm = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert weights(ours.actor.lstm, *lstm) == weights(peer.lstm_actor, *lstm)
    assert weights(ours.critic.lstm, *lstm) == weights(peer.lstm_critic, *lstm)
    assert ours.actor.encoder.weight.shape == peer.pi_features_extractor._layer.weight.shape
    assert ours.critic.encoder.weight.shape == peer.vf_features_extractor._layer.weight.shape
    heads, inputs, hidden = ours.heads.weight_in.shape
    assert peer.mlp_extractor.policy_net[0].weight.shape == (heads * hidden, inputs)
    assert peer.mlp_extractor.value_net[0].weight.shape == ours.value.hidden.weight.shape


@pytest.mark.parametrize("make", [OurTrainer, lambda setting: Peer(setting, recurrent=True)])
def test_an_update_takes_all_epochs_and_minibatches_of_all_environments(make):
    subject = make(SMALL)
    optimizer = subject.agent._optimizer if isinstance(subject, OurTrainer) else subject._model.policy.optimizer
    cost = subject.run(3)
    taken = {int(state["step"]) for state in optimizer.state.values()}
    assert taken == {3 * SMALL.epochs * SMALL.minibatches}
    assert min(cost) > 0
    if isinstance(subject, OurTrainer):
        assert subject.collector.episodes.tolist() == [0] * 4
    else:
        assert subject._model.num_timesteps == 3 * SMALL.steps


def test_a_stopwatch_gives_each_part_its_own_time():
    class Program:
        def outer(self):
            self.inner()
            return busy(0.02)

        def inner(self):
            return busy(0.04)

    def busy(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    watch, program = Stopwatch(), Program()
    with watch.watching_all([(program, "outer", "outside"), (program, "inner", "inside")]):
        program.outer()
    program.outer()
    assert watch.seconds["outside"] == pytest.approx(0.02, abs=0.015)
    assert watch.seconds["inside"] == pytest.approx(0.04, abs=0.015)


def test_ratios_compare_costs_of_the_same_turn():
    """In its second turn the machine was twice as slow for both."""
    costs = {OURS: [Cost(1, 1), Cost(2, 2)], RECURRENT: [Cost(2, 8), Cost(4, 16)]}
    found = report([Comparison(Setting(128), costs, {"backward": 3.0, "telemetry": 1.0}, 0.3)])
    steps = round(Setting(128).steps / (3 / UPDATES))
    assert (
        f"| 128 | `{OURS}` | {steps:,} | {1500 / UPDATES:,.0f} ms | {1500 / UPDATES:,.0f} ms | 5.0 (5.0 to 5.0) |"
        in found
    )
    assert "| backward | 75.0% |\n| telemetry | 25.0% |\n" in found
    whole, peer = 3 / UPDATES, 15 / UPDATES
    assert f"| of an update | 300 ms |\n| share | {0.3 / whole:.0%} |\n" in found
    assert found.endswith(f"took no time | {peer / 0.3:.1f} |\n")


def test_turns_hold_whole_episodes():
    """Otherwise turns would differ by what their rollouts happen to hold."""
    episode = OurTrainer(SMALL).environment.vector.options.episode_steps
    assert Setting(128).rollout_steps % episode == 0
    assert PART_UPDATES % UPDATES == 0


@pytest.mark.slow
def test_a_worker_answers_until_it_is_closed():
    worker = Worker(OURS, 8)
    assert worker.run(1).whole > 0
    assert set(worker.parts(1)) >= {"policy step", "environment", "forward and losses", "backward", "telemetry"}
    assert worker.products(1) > 0
    worker.close()


def test_the_page_has_the_markers():
    page = (ROOT / "docs/benchmarks.md").read_text()
    assert page.index(BEGIN) < page.index(END)
