import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from rl_exporter import (
    HeadMeasurement,
    Heads,
    HeadState,
    Level,
    PPOUpdatePayload,
    RunInfo,
    RunState,
    SanctumAggregator,
)
from rl_exporter import aggregator as aggregator_module

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


@pytest.mark.parametrize("bad", [-0.1, math.log(6) * 1.008])
def test_impossible_values_are_counted_and_dropped(bad):
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(bad)))
    assert not agg.snapshot().tamiyo.readings["op"].measured
    assert agg.snapshot().record_errors == 1


@pytest.mark.parametrize(("bad", "nan", "inf"), [(math.nan, 1, 0), (math.inf, 0, 1), (-math.inf, 0, 1)])
@pytest.mark.parametrize("field", ["entropy", "choice_entropy", "gradient_norm", "importance_ratio_max"])
def test_values_that_are_not_finite_are_counted_by_kind_and_dropped(field, bad, nan, inf):
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(**{field: bad})))
    reading = agg.snapshot().tamiyo.readings["op"]
    assert (reading.nan_values, reading.inf_values) == (nan, inf)
    assert getattr(reading, field) in {None, 0.0}
    assert not reading.measured
    assert agg.snapshot().record_errors == 0
    assert (reading.state is HeadState.EXPLODING) == (field == "gradient_norm")


def test_rounding_is_clamped():
    agg = aggregator()
    agg.handle_ppo_update(payload(HeadMeasurement(math.log(6) + 1e-7), HeadMeasurement(-1e-7)))
    tamiyo = agg.snapshot().tamiyo
    assert tamiyo.head_op_entropy == math.log(6)
    assert tamiyo.head_slot_entropy == 0.0
    assert agg.snapshot().record_errors == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("choices", [2, 6, 13, 64, 361, 4672, 32000])
def test_a_uniform_head_is_measured_in_every_precision(choices, dtype):
    """Its entropy rounds to more than ln n in most of them."""
    probabilities = torch.full((choices,), 1 / choices, dtype=dtype)
    entropy = -(probabilities * probabilities.log()).sum(dtype=torch.float32).to(dtype)
    ratio = (entropy.double() / math.log(choices)).to(dtype)
    agg = SanctumAggregator(Heads.of({"op": choices}), RunInfo("run"))
    measured = HeadMeasurement(entropy.item(), ratio.item(), 1.0, 1.0)
    agg.handle_ppo_update(PPOUpdatePayload(heads={"op": measured}))
    assert agg.snapshot().record_errors == 0
    assert 0.99 < agg.snapshot().tamiyo.readings["op"].normalized <= 1.0


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


def ratios(agg, *values, gradient=None):
    for value in values:
        measured = HeadMeasurement(1.0, value, 0.0 if value is None else 0.5, 0.5, gradient)
        agg.handle_ppo_update(payload(op=measured))
    return agg.snapshot().tamiyo.readings["op"]


def test_streaks_count_low_updates_and_a_good_one_ends_them():
    agg = aggregator()
    assert agg.snapshot().tamiyo.readings["op"].critical_streak is None
    assert ratios(agg, 0.25, 0.2).critical_streak == 2
    assert ratios(agg, 0.5).critical_streak == 0
    assert ratios(agg, 0.1).warning_streak == 4
    assert ratios(agg, 0.6).warning_streak == 0


def test_an_update_without_choice_unmeasured_or_not_finite_leaves_streaks_alone():
    agg = aggregator()
    before = ratios(agg, 0.2, 0.2)
    assert ratios(agg, None).critical_streak == before.critical_streak
    agg.handle_ppo_update(payload())
    agg.handle_ppo_update(payload(op=HeadMeasurement(math.nan, math.nan, 0.5)))
    assert agg.snapshot().tamiyo.readings["op"].critical_streak == before.critical_streak
    assert ratios(agg, 0.2).critical_streak == 3


def test_every_effective_ratio_is_in_the_histogram():
    reading = ratios(aggregator(), 0.05, 0.1, 0.25, 0.26, 0.5, 0.9, 1.0, None)
    assert dict(reading.effective_histogram.cumulative()) == {
        "0.1": 2,
        "0.25": 3,
        "0.5": 5,
        "0.75": 5,
        "0.9": 6,
        "+Inf": 7,
    }
    assert reading.effective_histogram.sum == pytest.approx(3.06)


def test_the_slope_is_the_least_squares_fit_over_update_numbers():
    agg = aggregator()
    assert ratios(agg, 0.9).slope is None
    assert ratios(agg, 0.8).slope == pytest.approx(-0.1)
    assert ratios(agg, None, None, 0.5).slope == pytest.approx(np.polyfit([1, 2, 5], [0.9, 0.8, 0.5], 1)[0])
    values = list(np.random.default_rng(0).random(25))
    assert ratios(agg, *values).slope == pytest.approx(np.polyfit(range(10), values[-10:], 1)[0])


def test_the_state_streak_counts_updates_in_the_present_state():
    agg = aggregator()
    reading = ratios(agg, 0.6, 0.7)
    assert (reading.state, reading.state_streak) == (HeadState.HEALTHY, 2)
    agg.handle_ppo_update(payload())
    assert agg.snapshot().tamiyo.readings["op"].state_streak == 2
    reading = ratios(agg, 0.05)
    assert (reading.state, reading.state_streak) == (HeadState.DETERMINISTIC, 1)
    agg.handle_ppo_update(payload(op=HeadMeasurement(nan_gradients=1)))
    assert agg.snapshot().tamiyo.readings["op"].state is HeadState.EXPLODING


def test_a_head_of_one_choice_can_never_decide():
    agg = SanctumAggregator(Heads.of({"only": 1}), RunInfo("run"))
    agg.handle_ppo_update(PPOUpdatePayload(heads={"only": HeadMeasurement(0.0)}))
    reading = agg.snapshot().tamiyo.readings["only"]
    assert reading.measured
    assert reading.normalized is reading.effective is None
    assert reading.state is HeadState.DETERMINISTIC
    assert reading.critical_streak is None


def test_a_resumed_run_goes_on_where_it_stopped():
    former = aggregator()
    ratios(former, 0.2, 0.2)
    former.handle_ppo_update(
        payload(op=HeadMeasurement(1.0, 0.2, 0.5, 0.5), environment_steps=7, update_duration=2.0)
    )
    resumed = SanctumAggregator(HEADS, RunInfo("run"), resumed=former.snapshot(), clock=lambda: 2000.0)
    assert resumed.snapshot().last_update_timestamp is None
    assert resumed.snapshot().start_timestamp == 2000.0
    for name, reading in former.snapshot().tamiyo.readings.items():
        assert replace(resumed.snapshot().tamiyo.readings[name], conditions=()) == replace(
            reading, conditions=()
        )
    reading = ratios(resumed, 0.2)
    assert reading.critical_streak == 4
    assert sum(reading.effective_histogram.counts) == 4
    assert resumed.snapshot().tamiyo.updates == 4
    assert resumed.snapshot().environment_steps == 7
    assert sum(resumed.snapshot().update_durations.counts) == 1
    with pytest.raises(ValueError, match="cannot resume run 'run'"):
        SanctumAggregator(Heads.of({"op": 6}), RunInfo("run"), resumed=former.snapshot())


def test_a_signal_handler_may_end_the_run_within_an_update(monkeypatch):
    """It runs in the thread that holds the lock, and waits until scrapers, other threads, have seen the end."""
    monkeypatch.setattr(aggregator_module, "_LONGEST_UPDATE_SECONDS", 0.05)
    seen = []

    def clock():
        if interrupts:
            run.set_run_state(RunState.INTERRUPTED)
            run.count_record_error()
            with ThreadPoolExecutor(1) as scraper:
                seen.extend([run.snapshot(), scraper.submit(run.snapshot).result(timeout=60)])
        return 1000.0

    interrupts = False
    run = SanctumAggregator(HEADS, RunInfo("run"), clock=clock)
    run.handle_ppo_update(payload(HeadMeasurement(1.0)))
    before = run.snapshot()
    interrupts = True
    training = threading.Thread(target=run.handle_ppo_update, args=[payload(HeadMeasurement(0.5))], daemon=True)
    training.start()
    training.join(timeout=60)
    assert not training.is_alive()
    assert seen == [replace(before, run_state=RunState.INTERRUPTED)] * 2
    after = run.snapshot()
    assert (after.tamiyo.updates, after.tamiyo.readings["op"].entropy) == (2, 0.5)
    assert (after.run_state, after.record_errors) == (RunState.INTERRUPTED, 1)
