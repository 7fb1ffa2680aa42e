"""The law of the entropy controller: what one more ratio of a head does to what is added."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_exporter.intervention.law import DEFAULT_GAINS, Gains, HeadControl, answer

TARGET = 0.4
FRESH = HeadControl()
GAINS = Gains(proportional=0.5, integral=0.1, slew=0.25)
AT_ONCE = replace(GAINS, patience=1, slew=1.0)


def after(*ratios, gains=GAINS, blind=True, control=FRESH):
    for ratio in ratios:
        control = answer(control, gains, TARGET, ratio, control.seen + 1, blind=blind)
    return control


def test_the_sum_of_both_parts_by_hand():
    once = after(0.1, gains=AT_ONCE)
    assert once.integral == pytest.approx(0.1 * 0.3)
    assert once.added == pytest.approx(0.1 * 0.3 + 0.5 * 0.3)
    twice = after(0.2, gains=AT_ONCE, control=once)
    assert twice.added == pytest.approx(0.1 * (0.3 + 0.2) + 0.5 * 0.2)
    above = after(0.5, gains=AT_ONCE, control=twice)
    assert above.added == pytest.approx(0.1 * (0.3 + 0.2 - 0.1))
    assert (above.raised, above.released) == (1, 2)


def test_nothing_happens_before_the_patience_ends():
    assert after(0.1).added == 0.0
    assert after(0.1, 0.8, 0.1, 0.8, 0.1).added == 0.0
    assert after(0.1, 0.1).added > 0.0


def test_it_moves_no_faster_than_the_slew_up_and_down():
    gains = replace(AT_ONCE, slew=0.05)
    up = [after(*[0.0] * n, gains=gains).added for n in (1, 2, 3)]
    assert up == pytest.approx([0.05, 0.1, 0.15])
    high = HeadControl(integral=0.0, added=0.9)
    assert after(1.0, gains=gains, control=high).added == pytest.approx(0.85)


def test_the_integral_does_not_wind_up():
    gains = replace(AT_ONCE, most=0.3)
    long = after(*[0.0] * 200, gains=gains)
    assert (long.integral, long.added) == (0.3, 0.3)
    assert long.saturated == 198  # the first two asked for less
    # Once above the target it comes down at once, instead of working off what piled up.
    released = after(0.6, gains=gains, control=long)
    assert released.added < 0.3
    assert released.saturated == 0


def test_a_head_at_its_target_is_not_saturated():
    assert after(TARGET, control=HeadControl(integral=1.0, added=1.0)).saturated == 0


def test_a_head_that_decides_by_the_state_is_left_alone():
    alone = after(*[0.01] * 50, blind=False)
    assert alone == replace(FRESH, share=alone.share, seen=50)
    assert alone.share == pytest.approx(0.8**50)
    control = after(*[0.05] * 10)
    assert control.added > 0.3
    let_go = after(*[0.05] * 30, blind=False, control=control)
    assert (let_go.added, let_go.integral) == (0.0, 0.0)
    # Blind again, the target comes back step by step.
    again = after(*[0.05] * 12, control=let_go)
    assert let_go.share < again.share <= 1.0
    assert after(*[0.05] * 40, control=let_go).added > 0.3


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.5), st.booleans()), max_size=60),
    st.floats(0.01, 0.99),
    st.sampled_from([DEFAULT_GAINS, AT_ONCE, Gains(5.0, 3.0, 0.0, 0.2, 0.01), Gains(0.0, 0.0, 1.0, 2.0, 1.0)]),
)
def test_whatever_comes_it_stays_within_its_bounds(ratios, target, gains):
    control = HeadControl()
    for seen, (ratio, blind) in enumerate(ratios, 1):
        before, control = control, answer(control, gains, target, ratio, seen, blind=blind)
        assert 0.0 <= control.added <= gains.most
        assert 0.0 <= control.integral <= gains.most
        assert 0.0 <= control.share <= 1.0
        assert abs(control.added - before.added) <= gains.slew + 1e-12
        if not blind or ratio >= target:
            assert control.added <= before.added


@pytest.mark.parametrize(
    "impossible",
    [{"proportional": -1.0}, {"integral": float("nan")}, {"most": 0.0}, {"slew": 0.0}, {"anneal": 1.0},
     {"anneal": 0.0}, {"patience": -1}],
)  # fmt: skip
def test_impossible_gains_are_refused(impossible):
    with pytest.raises(ValueError, match="give"):
        Gains(**impossible)
