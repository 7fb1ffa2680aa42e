"""Scales observations to what the policy sees, and says where it sees little of them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_training.config import OBSERVATION_LIMIT

WIDEST_BOUND = 1000.0
"""Larger bounds are seldom those of what is observed: by those of a number format it would become 0."""

SHARE_CUT_OFF = 0.1
"""Of the observed numbers of a rollout; more are worth a warning."""

LEAST_SCALED = 0.01
"""Of their bounds: if scaled numbers use less in a rollout, they do not have these bounds."""

_LOOKED_AT = 100_000

_LOG = logging.getLogger("rl_training")

Observations = npt.NDArray[np.float32]


class ObservationScale:
    """Divides numbers whose bounds lie beyond the limit by the larger bound, so that they lie in [-1, 1].

    Numbers with bounds within the limit, or without bounds, stay as they are.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        bounds = np.full(1, np.inf)
        if isinstance(space, spaces.Box):
            # In float64, where the smallest integer has an absolute value.
            bounds = np.maximum(*(np.abs(each.astype(np.float64).ravel()) for each in (space.low, space.high)))
        self._scaled = (bounds > OBSERVATION_LIMIT) & (bounds <= WIDEST_BOUND)
        self._divisors = np.where(self._scaled, bounds, 1.0).astype(np.float32) if self._scaled.any() else None
        self._may_be_cut_off = bool((bounds > WIDEST_BOUND).any())
        self._may_be_too_wide = self._divisors is not None

    def scaled(self, observations: Observations) -> Observations:
        """Flat observations (…, D) as the policy gets them."""
        return observations if self._divisors is None else observations / self._divisors

    def look_at(self, observations: Observations) -> None:
        """Warn, once, where the policy sees little of a rollout (T, …, D): some of its steps tell."""
        if self._may_be_cut_off or self._may_be_too_wide:
            some = np.abs(observations[:: 1 + observations.size // _LOOKED_AT])
            self._warn_of_cut_off(some)
            self._warn_of_too_wide(some)

    def _warn_of_cut_off(self, magnitudes: Observations) -> None:
        if not self._may_be_cut_off:
            return
        share = np.count_nonzero(magnitudes > OBSERVATION_LIMIT) / magnitudes.size
        if share > SHARE_CUT_OFF:
            self._may_be_cut_off = False
            _LOG.warning(
                "%.0f%% of the observed numbers lie beyond ±%g, where the policy cuts them off; scale them in "
                "the environment, or give its observation space their bounds, by which the trainer scales",
                100 * share,
                OBSERVATION_LIMIT,
            )

    def _warn_of_too_wide(self, magnitudes: Observations) -> None:
        if self._may_be_too_wide and magnitudes[..., self._scaled].max() < LEAST_SCALED:
            _LOG.warning(
                "observations use less than %g%% of the bounds, beyond ±%g, by which the trainer scales them; "
                "give the observation space the bounds that they have",
                100 * LEAST_SCALED,
                OBSERVATION_LIMIT,
            )
        self._may_be_too_wide = False
