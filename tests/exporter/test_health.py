import math

import pytest

from rl_exporter.health import HeadState, Level, head_state, level


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, Level.HEALTHY),
        (math.nextafter(0.5, 1), Level.HEALTHY),
        (0.5, Level.WARNING),
        (math.nextafter(0.25, 1), Level.WARNING),
        (0.25, Level.CRITICAL),
        (0.0, Level.CRITICAL),
        (math.nan, None),
        (None, None),
    ],
)
def test_boundaries_belong_to_the_worse_side(ratio, expected):
    assert level(ratio) is expected


above, below = (lambda x: math.nextafter(x, 9)), (lambda x: math.nextafter(x, -9))


@pytest.mark.parametrize(
    ("ratio", "gradient", "expected"),
    [
        (0.7, above(5.0), HeadState.EXPLODING),
        (0.7, 5.0, HeadState.HEALTHY),
        (None, 6.0, HeadState.EXPLODING),
        (0.05, 6.0, HeadState.EXPLODING),
        (below(0.1), below(0.01), HeadState.DEAD),
        (below(0.1), 0.01, HeadState.DETERMINISTIC),
        (below(0.1), None, HeadState.DETERMINISTIC),
        (0.1, 0.001, HeadState.UNSETTLED),
        (0.1, 1.0, HeadState.UNSETTLED),
        (0.5, 1.0, HeadState.UNSETTLED),
        (above(0.5), 1.0, HeadState.HEALTHY),
        (above(0.5), None, HeadState.HEALTHY),
        (above(0.5), 0.01, HeadState.HEALTHY),
        (above(0.5), below(0.01), HeadState.UNSETTLED),
        (0.9, 1.0, HeadState.HEALTHY),
        (0.9, below(0.01), HeadState.UNSETTLED),
        (above(0.9), 1.0, HeadState.CONFUSED),
        (above(0.9), 0.0, HeadState.CONFUSED),
        (1.0, None, HeadState.CONFUSED),
        (None, 1.0, None),
    ],
)
def test_head_state_health_classification(ratio, gradient, expected):
    assert head_state(ratio, gradient) is expected
    assert head_state(ratio, gradient, gradients_finite=False) is HeadState.EXPLODING
    if expected is None:
        assert head_state(ratio, gradient, had_choice=False) is HeadState.DETERMINISTIC
        assert head_state(ratio, gradient, had_choice=True) is None
