"""Masks of MaskablePPO: what heads choose where they can, and heads that never can."""

import numpy as np
import pytest

from rl_exporter import HeadState
from tests.exporter.integrations.sb3.learning import NAMES, SIZES, learned, masked, ppo, sharpen
from tests.support.sb3_reach import head_entropies, policy_logits, random_masks, split


def test_masked_entropies_choices_and_shares():
    model = sharpen(masked(learning_rate=0.0))
    readings = learned(model).tamiyo.readings
    buffer = model.rollout_buffer
    logits = policy_logits(model.policy, buffer.observations)
    entropies = head_entropies(logits, SIZES, buffer.action_masks)
    masks = buffer.action_masks.reshape(logits.shape)
    valid = np.stack([part.sum(1) for part in split(masks, SIZES)], 1)
    for index, name in enumerate(NAMES[:2]):
        choosing = valid[:, index] >= 2
        ratios = entropies[choosing, index] / np.log(valid[choosing, index])
        reading = readings[name]
        assert reading.entropy == pytest.approx(entropies[:, index].mean(), abs=1e-6)
        assert reading.choice_entropy == pytest.approx(ratios.mean(), abs=1e-6)
        assert reading.choice_share == reading.open_share == choosing.mean()
        assert 0.0 < reading.choice_share < 1.0


def test_a_head_without_any_choice_is_not_called_collapsed():
    snapshot = learned(masked(), updates=3)
    arm = snapshot.tamiyo.readings["arm"]
    assert (arm.entropy, arm.choice_share, arm.open_share) == (0.0, 0.0, 0.0)
    assert arm.choice_entropy is arm.effective is arm.level is None
    assert arm.state is HeadState.DETERMINISTIC
    assert arm.critical_streak is None
    assert snapshot.record_errors == 0


def test_an_unmasked_policy_reports_no_choice():
    readings = learned(ppo()).tamiyo.readings
    assert {(r.choice_share, r.open_share, r.choice_entropy) for r in readings.values()} == {(None,) * 3}
    assert readings["arm"].effective == readings["arm"].normalized


def test_a_mask_that_allows_nothing_is_counted_and_not_shown(caplog):
    def masks(generator, sizes):
        allowed = random_masks(generator, sizes)
        allowed[4:6] &= generator.random() < 0.5
        return allowed

    snapshot = learned(masked(masks=masks), updates=3)
    assert not snapshot.tamiyo.readings["valve"].measured
    assert snapshot.tamiyo.readings["gripper"].measured_update == 3
    assert snapshot.record_errors == 3
    (record,) = caplog.records
    assert "head 'valve': its mask allows no action" in record.message
