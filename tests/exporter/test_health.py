import math

import pytest

from rl_exporter.health import Level, level


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
