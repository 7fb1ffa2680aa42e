"""What sums over the choice steps of a head say about it: state information and advantage margin.

A meter forms the sums, on the device or with NumPy; arithmetic on the host and constants are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rl_exporter.health import is_blind

STEPS_PER_ACTION = 4
"""With fewer choice steps than this for each of its actions, a head may look blind and not be so.

The n weights of the preference partly fit the N states that happened to be visited. This lowers the entropy of
the mean policy, and with it the state information, by up to about (n - 1) / 2N nats (Miller 1955). With N >= 4n
that is less than 1/8 nat. It never raises it, so that a head that looks at the state in few steps does look.
"""

DECAY = 0.95
"""What an update leaves of the advantage sums of those before it.

A head that has settled rarely tries other actions, so that one rollout holds too few of them to compare.
"""


MINORIZE_STEPS = 3
"""Lead to where Newton's steps converge. Without Newton's steps, ten of them give four digits in ordinary runs.

The numbers are fixed: to decide them, the host would have to wait for the device.
"""

NEWTON_STEPS = 5

NEWTON_CHOICES = 64
"""Newton's step needs memory and time for choices x choices numbers. Policies with a wider head do without."""

MINORIZE_STEPS_ALONE = 10

NEWTON_DAMPING = 1e-3
NEWTON_LARGEST_STEP = 5.0
"""Of the logarithm of a weight. Weights that should be 0 would otherwise jump out of range."""

NOTHING_UNCERTAIN = 1e-4
"""Nats. Below this uncertainty about the action, the state's share of it is rounding."""


class Information(NamedTuple):
    """How much of a head's decisions the state explains; None: not known."""

    nats: float | None = None
    ratio: float | None = None
    """Of all that is uncertain about the action without a look at the state (Theil's U)."""


def state_information(
    probability: Sequence[float],
    weights: Sequence[float],
    entropy: float,
    log_normalizer: float,
    steps: float,
    *,
    least: float | None = None,
) -> Information:
    """Mean divergence of a head from its best preference, from sums over its choice steps.

    ``probability`` and ``weights`` by action. Unknown where the head looks blind and the steps are fewer than
    ``least``, by default STEPS_PER_ACTION for each action. What is uncertain about the action without the state
    is the mean cross-entropy from the head to the preference: at its best, the mean entropy of the preference.
    """
    if not steps:
        return Information()
    cross = math.fsum(p * math.log(w) for p, w in zip(probability, weights, strict=True) if p > 0 and w > 0)
    # Rounding can leave a blind head a little below 0, and a sure one without uncertainty.
    uncertain = max(0.0, (log_normalizer - cross) / steps)
    nats = max(0.0, uncertain - entropy / steps)
    found = Information(nats, min(1.0, nats / uncertain) if uncertain >= NOTHING_UNCERTAIN else None)
    enough = steps >= (STEPS_PER_ACTION * len(weights) if least is None else least)
    return found if enough or not is_blind(*found) else Information()


class Margin(NamedTuple):
    """Mean advantage of the leading action less that of the others, and Welch's t; None: not known."""

    difference: float | None = None
    t: float | None = None


def margin(leading: int, steps: Sequence[float], total: Sequence[float], squares: Sequence[float]) -> Margin:
    """The margin of one head from the sums of its actions; absent without two steps of either kind."""
    of_leading = steps[leading], total[leading], squares[leading]
    of_others = tuple(math.fsum(sums) - sums[leading] for sums in (steps, total, squares))
    if min(of_leading[0], of_others[0]) < 2:
        return Margin()
    (mean, error), (other_mean, other_error) = (_mean_and_error(*sums) for sums in (of_leading, of_others))
    difference, spread = mean - other_mean, math.sqrt(error + other_error)
    return Margin(difference, difference / spread if spread > 0 else None)


def _mean_and_error(steps: float, total: float, squares: float) -> tuple[float, float]:
    """The mean, and its squared standard error with the unbiased variance."""
    mean = total / steps
    deviations = squares - total * mean
    # What rounding leaves of advantages that are all the same is no spread.
    return mean, deviations / (steps - 1) / steps if deviations > 1e-12 * squares else 0.0
