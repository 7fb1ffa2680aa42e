"""This project's environments as Stable-Baselines3 takes them: single, with what a flat mask can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.algorithm.collector import step_masks
from rl_training.environments.adapter import OUR_SINGLES


def make(name: str, arguments: Mapping[str, Any], *, show_masks: bool = False) -> gymnasium.Env[Any, Any]:
    """An environment by the name that ``rl-train`` gives it. ``show_masks`` adds its mask to what it shows."""
    if name not in OUR_SINGLES:
        return gymnasium.make(name, **arguments)
    flat = FlatMasks(OUR_SINGLES[name](**arguments))
    return MasksShown(flat) if show_masks else flat


class FlatMasks(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Masks as MaskablePPO takes them: one row for all heads.

    MaskablePPO samples the heads independently, so a mask that depends on the operation becomes the step mask:
    what some valid operation that consults the head would allow. The environment makes the best of the rest:
    ``heads`` takes no notice of heads that are not consulted, the growing network waits.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, gymnasium.spaces.MultiDiscrete)
        sizes = env.action_space.nvec.tolist()
        self._layout = HeadLayout(env.get_wrapper_attr("head_names"), sizes)
        self._consulted = getattr(env, "consulted_heads", None)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(Σn,) valid actions now."""
        masks = self.env.get_wrapper_attr("action_masks")()
        if masks.ndim == 1:
            return np.asarray(masks)
        # Which operation was sampled does not matter for the step mask.
        found = step_masks(masks[None], np.zeros(1, np.int64), self._layout, self._consulted)
        return np.asarray(found.step[0])


class MasksShown(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations with the flat mask behind them, for an algorithm that takes no masks."""

    def __init__(self, env: FlatMasks) -> None:
        super().__init__(env)
        space, actions = env.observation_space, env.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        assert isinstance(actions, gymnasium.spaces.MultiDiscrete)
        width = space.shape[0] + int(actions.nvec.sum())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)

    def observation(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The observation, then 1 for each valid action and 0 for each other."""
        masks = self.get_wrapper_attr("action_masks")()
        return np.concatenate([observation, masks.astype(np.float32)])
