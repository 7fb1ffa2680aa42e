"""An entropy controller on the one coefficient of real models of Stable-Baselines3."""

import json
import logging
from contextlib import nullcontext
from itertools import pairwise

import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from rl_exporter.intervention.law import DEFAULT_GAINS
from rl_exporter.view.document import document
from tests.support.sb3_reach import Reach, local
from tests.support.sb3_reach import small_ppo as ppo

NAMES = ("arm", "grip", "lift")


class Watch(BaseCallback):
    """The coefficient of each update."""

    def __init__(self):
        super().__init__()
        self.found = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.found.append(self.model.ent_coef)


def learnt(updates=8, weight=40.0, **options):
    """A model whose first head is deterministic and blind from the start, and what its updates had."""
    model, callback = ppo(Reach(names=NAMES)), local(**options)
    model.ent_coef = 0.01
    # Zero weights and one large bias: the same action whatever it sees.
    with_bias = model.policy.action_net
    with_bias.weight.data[:4] = 0.0
    with_bias.bias.data[:4] = 0.0
    with_bias.bias.data[0] = weight
    watch = Watch()
    model.learn(updates * 16, callback=CallbackList([callback, watch]))
    return model, callback, watch.found


def heads(callback):
    return {head["name"]: head for head in document(callback.recorder.snapshot())["heads"]}


def test_the_one_coefficient_rises_with_a_collapsed_head_and_returns_after_learning(caplog):
    with caplog.at_level(logging.INFO, logger="rl_exporter"):
        model, callback, found = learnt(entropy_targets={"arm": 0.4, "grip": 0.3})
    assert found[:2] == [0.01, 0.01]
    assert found[-1] > 0.4
    assert max(abs(one - other) for one, other in pairwise(found)) <= DEFAULT_GAINS.slew + 1e-9
    assert model.ent_coef == 0.01
    assert "one ent_coef for all heads" in caplog.text
    shown = heads(callback)
    assert shown["arm"]["entropy_coefficient_applied"] == found[-1]
    assert (
        shown["grip"]["entropy_coefficient_applied"] == found[-1]
    )  # it needs nothing and gets it all the same
    assert shown["grip"]["interventions_raised"] == 0.0
    assert shown["lift"]["entropy_coefficient_applied"] is None
    assert callback.recorder.snapshot().tamiyo.entropy_coefficient == 0.01
    assert callback.recorder.snapshot().record_errors == 0


def test_observing_changes_nothing_and_says_what_it_would_do():
    _, callback, found = learnt(entropy_targets={"arm": 0.4}, entropy_controller="observe")
    assert set(found) == {0.01}
    arm = heads(callback)["arm"]
    assert arm["entropy_coefficient_applied"] == 0.01
    assert arm["entropy_coefficient_proposed"] > 0.4
    assert arm["controller_saturated"] is None


def test_without_targets_nothing_is_different():
    model, callback, found = learnt(updates=3)
    assert set(found) == {0.01}
    assert model.ent_coef == 0.01
    assert heads(callback)["arm"]["entropy_target"] is None
    json.dumps(heads(callback))


def test_another_learn_goes_on_with_the_integral():
    model, callback = ppo(Reach(names=NAMES)), local(entropy_targets={"arm": 0.4})
    watch = Watch()
    model.policy.action_net.weight.data[:4] = 0.0
    model.policy.action_net.bias.data[0] = 40.0
    with callback:
        model.learn(5 * 16, callback=CallbackList([callback, watch]))
        before = watch.found[-1]
        model.learn(2 * 16, callback=CallbackList([callback, watch]))
    assert watch.found[5] >= before > 0.1


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        ({"leg": 0.4}, "unknown head 'leg'"),
        ({"arm": 1.5}, "between 0 and 1"),
        ({"arm": 0.1}, "critical threshold"),
    ],
)
def test_impossible_targets_end_before_the_training(targets, why):
    model, callback = ppo(Reach(names=NAMES)), local(entropy_targets=targets)
    with pytest.raises(ValueError, match=why):
        model.learn(16, callback=callback)
    assert model.num_timesteps == 0


class Interrupting(BaseCallback):
    """Ctrl-C within the update after some rollouts, when the loss is evaluated."""

    def __init__(self, rollouts):
        super().__init__()
        self._left = rollouts

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self._left -= 1
        if not self._left:
            self.model.policy.evaluate_actions = self._interrupt

    def _interrupt(self, *_):
        del self.model.policy.evaluate_actions
        raise KeyboardInterrupt


class Schedule(BaseCallback):
    """Another coefficient in each rollout; remembers what a model that is saved there has."""

    def __init__(self):
        super().__init__()
        self.saved = []

    def _on_step(self):
        self.saved.append(self.model.ent_coef)
        return True

    def _on_rollout_start(self):
        self.model.ent_coef = 0.01 * (1 + len(self.saved) // 16)


def collapsed(**options):
    model, callback = ppo(Reach(names=NAMES)), local(entropy_targets={"arm": 0.4}, **options)
    model.ent_coef = 0.01
    model.policy.action_net.weight.data[:4] = 0.0
    model.policy.action_net.bias.data[0] = 40.0
    return model, callback


@pytest.mark.parametrize("block", [True, False])
def test_after_an_interrupted_update_the_model_has_its_own_coefficient(block):
    """In a block at its end, else when the next training begins."""
    model, callback = collapsed()
    with pytest.raises(KeyboardInterrupt), callback if block else nullcontext():
        model.learn(10 * 16, callback=CallbackList([callback, Interrupting(6)]))
    assert (model.ent_coef == 0.01) == block
    watch = Watch()
    model.learn(2 * 16, callback=CallbackList([callback, watch]))
    assert model.ent_coef == 0.01
    assert watch.found[0] > 0.1, "what was added before is added again, once"
    assert document(callback.recorder.snapshot())["entropy_coefficient"] == 0.01


def test_between_updates_the_coefficient_is_the_users_to_schedule_and_to_save():
    (model, callback), schedule, watch = collapsed(), Schedule(), Watch()
    model.learn(6 * 16, callback=CallbackList([callback, watch, schedule]))
    assert schedule.saved == pytest.approx([0.01 * (1 + step // 16) for step in range(6 * 16)])
    assert watch.found[-1] > 0.3
    assert document(callback.recorder.snapshot())["entropy_coefficient"] == pytest.approx(0.06)
    assert model.ent_coef == pytest.approx(0.06)
