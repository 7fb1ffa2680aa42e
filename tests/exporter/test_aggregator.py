import dataclasses
import math

import pytest

from rl_exporter import (
    HeadMeasurement,
    Heads,
    Level,
    PPOUpdatePayload,
    RunInfo,
    RunState,
    SanctumAggregator,
)

HEADS = Heads.of({"op": 6, "slot": 3})


def aggregator():
    return SanctumAggregator(HEADS, RunInfo("run"), clock=lambda: 1000.0)


def payload(op=None, slot=None, **rest):
    return PPOUpdatePayload(heads={"op": op or HeadMeasurement(), "slot": slot or HeadMeasurement()}, **rest)


def test_state_reads_zero_before_the_first_update_and_says_so():
    tamiyo = aggregator().snapshot().tamiyo
    assert tamiyo.head_op_entropy == 0.0
    assert tamiyo.updates == 0
    assert not tamiyo.readings["op"].measured
    assert tamiyo.unmeasured_updates("op") is None


@pytest.mark.parametrize(
    "attribute", ["head_arm_entropy", "head__entropy", "head_op", "op_entropy", "nonsense"]
)
def test_undeclared_heads_are_attribute_errors(attribute):
    with pytest.raises(AttributeError, match=attribute):
        getattr(aggregator().snapshot().tamiyo, attribute)
    with pytest.raises(AttributeError, match=attribute):
        getattr(payload(), attribute)


def test_payload_fields_are_optional():
    assert payload().head_op_entropy is None
    assert payload(op=HeadMeasurement(1.5)).head_op_entropy == 1.5


def test_an_update_is_taken_over():
    agg = aggregator()
    agg.handle_ppo_update(
        payload(HeadMeasurement(0.9, 0.4, 0.8, 0.9), HeadMeasurement(1.0), environment_steps=512)
    )
    snapshot = agg.snapshot()
    op, slot = snapshot.tamiyo.readings["op"], snapshot.tamiyo.readings["slot"]
    assert snapshot.tamiyo.head_op_entropy == 0.9
    assert op.normalized == 0.9 / math.log(6)
    assert op.effective == 0.4
    assert op.level is Level.WARNING
    assert slot.effective == slot.normalized == 1.0 / math.log(3)
    assert snapshot.tamiyo.entropy == 1.9
    assert snapshot.environment_steps == 512
    assert snapshot.last_update_timestamp == 1000.0


def test_no_choice_means_no_verdict():
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(0.0, None, 0.0, 0.5)))
    reading = agg.snapshot().tamiyo.readings["op"]
    assert reading.effective is None
    assert reading.level is None
    assert reading.normalized == 0.0


def test_an_unmeasured_head_keeps_its_value_and_its_age():
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(0.9), HeadMeasurement(1.0)))
    agg.handle_ppo_update(payload(None, HeadMeasurement(1.0)))
    tamiyo = agg.snapshot().tamiyo
    assert tamiyo.head_op_entropy == 0.9
    assert tamiyo.unmeasured_updates("op") == 1
    assert tamiyo.unmeasured_updates("slot") == 0
    assert tamiyo.entropy is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, math.log(6) + 1e-3])
def test_impossible_values_are_counted_and_dropped(bad):
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(bad)))
    assert not agg.snapshot().tamiyo.readings["op"].measured
    assert agg.snapshot().record_errors == 1


def test_rounding_is_clamped():
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(math.log(6) + 1e-7), HeadMeasurement(-1e-7)))
    tamiyo = agg.snapshot().tamiyo
    assert tamiyo.head_op_entropy == math.log(6)
    assert tamiyo.head_slot_entropy == 0.0
    assert agg.snapshot().record_errors == 0


def test_an_unknown_head_changes_nothing():
    agg = aggregator()
    before = agg.snapshot()
    with pytest.raises(ValueError, match="unknown head 'arm'"):
        agg.handle_ppo_update(PPOUpdatePayload(heads={"arm": HeadMeasurement(1.0)}))
    assert agg.snapshot() is before


def test_snapshots_are_immutable():
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(0.9)))
    snapshot = agg.snapshot()
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.run_state = RunState.FAILED
    with pytest.raises(TypeError):
        snapshot.tamiyo.readings["op"] = None
    agg.set_run_state(RunState.COMPLETED)
    assert snapshot.run_state is RunState.RUNNING
    assert agg.snapshot().run_state is RunState.COMPLETED


def test_the_weakest_head_has_the_lowest_effective_ratio():
    agg = aggregator()
    assert agg.snapshot().tamiyo.weakest() is None
    agg.handle_ppo_update(payload(HeadMeasurement(1.7), HeadMeasurement(0.2)))
    assert agg.snapshot().tamiyo.weakest() == "slot"
