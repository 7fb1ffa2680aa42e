"""Every number that the exporter shows of RLlib's PPO, against NumPy on a second forward pass."""

import numpy as np
import pytest
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule

from tests.support.rllib.environments import SIZES, Masked, Nested, Two
from tests.support.rllib.reference import HeadReference, joined, joint_numbers, whole_steps
from tests.support.rllib.runs import configured, recorder_of, seen_by

NAMES = ("gripper", "valve", "arm")
CLOSE = {"abs": 1e-6, "rel": 1e-6}
FLOAT32 = {"rel": 2e-5}
"""RLlib and the meter compute ratios and gradients in float32."""


def references(algorithm, module, sizes):
    """For each update: its heads, their gradient norms, and the numbers of all heads together."""
    slices = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
    past, found = [None] * len(sizes), []
    for learners in zip(*seen_by(algorithm), strict=True):
        parts = [whole_steps(update[module]) for update in learners]
        flat, whole = joined([part[0] for part in parts]), min(part[1] for part in parts)
        heads = [HeadReference(flat, whole, head, columns, past[head]) for head, columns in enumerate(slices)]
        past = [head.sums for head in heads]
        gradients = [learners[0][module][index]["gradients"] for index in parts[0][2]]
        norms = [np.mean([np.linalg.norm(step[columns]) for step in gradients]) for columns in slices]
        found.append((heads, norms, joint_numbers(flat, whole, heads)))
    return found


def check(algorithm, module, sizes, names, *, masked=False):
    """The last update of a module."""
    snapshot = recorder_of(algorithm).snapshot()
    assert snapshot.record_errors == 0
    heads, norms, _ = references(algorithm, module, sizes)[-1]
    for name, head, norm in zip(names, heads, norms, strict=True):
        check_head(snapshot.tamiyo.readings[name], head, masked=masked)
        assert snapshot.tamiyo.readings[name].gradient_norm == pytest.approx(norm, **FLOAT32)
    return snapshot


def check_head(shown, head, *, masked):
    assert shown.entropy == pytest.approx(head.entropy, **CLOSE)
    if not masked:
        assert shown.choice_share is shown.open_share is shown.choice_entropy is None
    else:
        assert shown.choice_share == shown.open_share == pytest.approx(head.choice_share, **CLOSE)
    if not head.choosing.any():
        assert not shown.action_shares
        assert shown.choice_entropy is shown.state_information is shown.importance_ratio_max is None
        return
    if masked:
        assert shown.choice_entropy == pytest.approx(head.choice_entropy, **CLOSE)
    assert shown.action_shares == pytest.approx(head.action_shares, **CLOSE)
    assert shown.importance_ratio_max == pytest.approx(head.importance_ratio_max, **FLOAT32)
    nats, uncertain = head.information
    assert shown.state_information == pytest.approx(nats, abs=1e-6)
    # What a millionth of a nat is of all that is uncertain.
    assert shown.state_information_ratio == pytest.approx(nats / uncertain, abs=2e-6 / uncertain)
    expected = [None if one is None else pytest.approx(one, abs=1e-5, rel=1e-5) for one in head.margin]
    assert [shown.advantage_margin, shown.advantage_margin_t] == expected


def test_every_number_of_three_heads(runs):
    algorithm, snapshot = runs.train(configured(names=NAMES), iterations=3)
    check(algorithm, "default_policy", SIZES, NAMES)
    assert snapshot.tamiyo.updates == 3
    *_, (_, _, (clipped, divergence)) = references(algorithm, "default_policy", SIZES)
    assert clipped > 0.1
    assert snapshot.tamiyo.clipped_share == pytest.approx(clipped, **CLOSE)
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence, **CLOSE)


def test_minibatches_run_across_the_ends_of_epochs(runs):
    """Else the other cases would say little."""
    algorithm, _ = runs.train(configured())
    minibatches = seen_by(algorithm)[0][0]["default_policy"]
    pairs = [pair for one in minibatches for pair in zip(one["rows"], one["valid"], strict=True)]
    rows = len({(row.tobytes(), bool(valid)) for row, valid in pairs})
    assert rows % 24
    assert {len(one["rows"]) for one in minibatches} == {24}
    assert not all(valid for _, valid in pairs)


def test_masks_are_read_from_the_logits(runs):
    module = RLModuleSpec(module_class=ActionMaskingTorchRLModule, model_config={"fcnet_hiddens": [8]})
    algorithm = runs.build(configured(Masked, names=NAMES).rl_module(rl_module_spec=module))
    algorithm.train()
    algorithm.train()
    snapshot = check(algorithm, "default_policy", SIZES, NAMES, masked=True)
    assert 0.5 < snapshot.tamiyo.readings["gripper"].choice_share < 1.0
    assert snapshot.tamiyo.readings["arm"].choice_share == 0.0


def test_padding_of_a_recurrent_module_counts_nowhere(runs):
    recurrent = {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 4, "head_fcnet_hiddens": [8]}
    algorithm = runs.build(configured(names=NAMES).rl_module(model_config=recurrent))
    algorithm.train()
    check(algorithm, "default_policy", SIZES, NAMES)
    valid = seen_by(algorithm)[0][0]["default_policy"][0]["valid"]
    assert valid.ndim == 2


def test_heads_of_a_nested_action_space(runs):
    algorithm, _ = runs.train(configured(Nested))
    check(algorithm, "default_policy", (2, 4, 3), ("arm_0", "arm_1", "valve"))


def test_a_discrete_space_is_one_head(runs):
    algorithm, _ = runs.train(configured("CartPole-v1"))
    check(algorithm, "default_policy", (2,), ("action",))


def test_heads_of_several_modules(runs):
    config = configured(Two, names={"second": ("left", "right")})
    config.multi_agent(policies={"first", "second"}, policy_mapping_fn=lambda agent, *_, **__: agent)
    algorithm, snapshot = runs.train(config, iterations=2)
    check(algorithm, "first", SIZES, [f"first/head_{index}" for index in range(3)])
    check(algorithm, "second", (3, 5), ["second/left", "second/right"])
    assert snapshot.tamiyo.kl_divergence is snapshot.tamiyo.policy_loss is snapshot.tamiyo.clipped_share is None
    assert snapshot.tamiyo.updates == 2


def test_one_minibatch_is_one_epoch(runs):
    algorithm, _ = runs.train(configured(names=NAMES, num_epochs=1, minibatch_size=None))
    check(algorithm, "default_policy", SIZES, NAMES)


def test_two_learners_measure_together(runs):
    """Each has its own part of the rollout, and its own number of epochs."""
    options = {"train_batch_size_per_learner": 50, "minibatch_size": 10, "num_epochs": 7}
    algorithm, snapshot = runs.train(configured(learners=2, names=NAMES, **options), iterations=2)
    check(algorithm, "default_policy", SIZES, NAMES)
    assert snapshot.run.world_size == 2
    epochs = [whole_steps(learner[-1]["default_policy"])[1] for learner in seen_by(algorithm)]
    assert epochs[0] != epochs[1]
    *_, (_, _, (clipped, divergence)) = references(algorithm, "default_policy", SIZES)
    assert snapshot.tamiyo.clipped_share == pytest.approx(clipped, **CLOSE)
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence, **CLOSE)
