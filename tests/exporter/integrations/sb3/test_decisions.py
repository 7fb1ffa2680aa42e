"""What HeadEntropyCallback says of the decisions of a head, against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from scipy.stats import entropy as scipy_entropy
from scipy.stats import ttest_ind
from stable_baselines3 import PPO

from rl_exporter import serve
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.support.sb3_reach import Reach, policy_logits, random_masks, split

SIZES = (4, 2, 6)
NAMES = ["gripper", "valve", "arm"]
OPTIONS = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "seed": 3, "device": "cpu", "learning_rate": 0.0}


def learned(kind=PPO, **options):
    """A model whose heads differ in entropy, and what one update measured of each."""
    model, snapshot = run(kind, **options)
    return model, snapshot.tamiyo.readings


def run(kind=PPO, **options):
    model = kind("MlpPolicy", Reach(SIZES, NAMES, random_masks), **OPTIONS)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)
    callback = HeadEntropyCallback("test", listen="127.0.0.1:0", linger=0, **options)
    model.learn(OPTIONS["n_steps"], callback=callback)
    assert callback.recorder.snapshot().record_errors == 0
    return model, callback.recorder.snapshot()


def probabilities_of(model):
    """Of each head at each step of the rollout, in float64."""
    for logits in split(
        policy_logits(model.policy, model.rollout_buffer.observations).astype(np.float64), SIZES
    ):
        weights = np.exp(logits - logits.max(1, keepdims=True))
        yield weights / weights.sum(1, keepdims=True)


def test_without_masks_state_information_is_mutual_information():
    model, readings = learned()
    for name, probabilities in zip(NAMES, probabilities_of(model), strict=True):
        mean = probabilities.mean(0)
        expected = scipy_entropy(mean) - scipy_entropy(probabilities, axis=1).mean()
        assert readings[name].state_information == pytest.approx(expected, abs=1e-6)
        assert readings[name].action_shares == pytest.approx(mean, abs=1e-6)
        assert readings[name].choice_share is None
        assert expected > 0.01


def test_the_margin_compares_the_advantages_of_the_rollout():
    model, readings = learned()
    buffer = model.rollout_buffer
    advantages = buffer.advantages.ravel().astype(np.float64)
    advantages = (advantages - advantages.mean()) / advantages.std(ddof=1)
    actions = buffer.actions.reshape(len(advantages), -1)
    for head, (name, probabilities) in enumerate(zip(NAMES, probabilities_of(model), strict=True)):
        leading = actions[:, head] == probabilities.mean(0).argmax()
        expected = ttest_ind(advantages[leading], advantages[~leading], equal_var=False).statistic
        assert readings[name].advantage_margin_t == pytest.approx(expected, rel=1e-4)


def test_under_masks_only_choice_steps_count():
    model, readings = learned(MaskablePPO)
    masks = split(model.rollout_buffer.action_masks.reshape(-1, sum(SIZES)), SIZES)
    for name, mask in zip(NAMES, masks, strict=True):
        reading, choosing = readings[name], mask.sum(1) >= 2
        if not choosing.any():
            assert not reading.action_shares
            assert reading.state_information is reading.advantage_margin is None
            continue
        assert sum(reading.action_shares) == pytest.approx(1.0, abs=1e-6)
        assert reading.state_information is not None or choosing.sum() < 4 * mask.shape[1]
    assert readings["gripper"].state_information > 0.0


def test_thresholds_reference_and_names_of_actions_are_those_of_serve():
    actions = ("open", "shut", "turn", "rest")
    _, snapshot = run(thresholds={"arm": (0.4, 0.2)}, reference={"valve": 0.5}, actions={"gripper": actions})
    assert snapshot.tamiyo.readings["arm"].thresholds == (0.4, 0.2)
    assert snapshot.tamiyo.readings["valve"].reference == 0.5
    assert snapshot.tamiyo.heads.named("gripper").actions == actions


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"thresholds": {"arm": (0.2, 0.4)}}, "critical threshold 0.4 above its warning threshold 0.2"),
        ({"thresholds": {"leg": (0.4, 0.2)}}, "unknown head 'leg'"),
        ({"reference": 0}, "reference 0; give"),
        ({"actions": {"valve": ["open"]}}, "2 choices but 1"),
    ],
)
def test_what_cannot_be_is_refused_before_training(options, reason):
    with pytest.raises(ValueError, match=reason):
        learned(**options)


def test_a_recorder_declares_its_own_heads():
    refused = pytest.raises(ValueError, match="with the heads of the recorder")
    with serve({"arm": 2}, listen="127.0.0.1:0", linger=0) as recorder, refused:
        HeadEntropyCallback(recorder=recorder, thresholds={"arm": (0.4, 0.2)})
