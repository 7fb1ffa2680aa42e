"""What a batch of a collector says of its episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

from rl_exporter.integrations.minibatches import DeviceMeans

_ENDED = {"episode_return": ("next", "episode_reward"), "episode_length": ("next", "step_count")}
"""Where RewardSum and StepCounter write them; at the end of an episode they are those of the whole episode."""


def rollout_numbers(batch: TensorDictBase | None) -> Callable[[], dict[str, Any]]:
    """Frames, episodes, mean return and length of a batch; call the result once the host has waited."""
    if batch is None:
        return dict
    sums = DeviceMeans()
    padding = batch.get(("collector", "mask"), None)
    if padding is not None:
        sums.add("environment_steps", padding.sum())
    done = batch.get(("next", "done"), None)
    if done is not None:
        ended = done if padding is None else done & padding.reshape(done.shape)
        _add_episodes(sums, ended, batch)
    frames, read = batch.numel(), sums.take()
    return lambda: _divided(frames, read())


def _add_episodes(sums: DeviceMeans, ended: Tensor, batch: TensorDictBase) -> None:
    sums.add("episodes", ended.sum())
    for name, key in _ENDED.items():
        values = batch.get(key, None)
        if values is not None and values.shape == ended.shape:
            # A product with False would keep NaN.
            sums.add(name, values.where(ended, values.new_zeros(())).sum())


def _divided(frames: int, sums: dict[str, float]) -> dict[str, Any]:
    episodes = int(sums.get("episodes", 0))
    found: dict[str, Any] = {
        "environment_steps": int(sums.get("environment_steps", frames)),
        "episodes": episodes,
    }
    if episodes:
        found |= {name: sums[name] / episodes for name in _ENDED if name in sums}
    return found
