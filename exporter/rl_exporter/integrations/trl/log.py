"""What trainers of TRL log, as arguments of ``HeadRecorder.record``.

A number goes into a field of the exporter only where it is what that field says. What TRL defines in another
way travels as an environment metric, under a name that says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEAD = "token"
"""The one head: each token is a decision among the whole vocabulary."""

_FIELDS = {
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "entropy_coef": "entropy_coefficient",
    "reward": "episode_return",
    "completions/mean_length": "episode_length",
}

_REPORTS = {
    "reward_std": "reward_std",
    "frac_reward_zero_std": "reward_zero_std_ratio",
    "completions/clipped_ratio": "truncated_completions_ratio",
    # Not rl_policy_clipped_steps_ratio: TRL leaves out a ratio beyond the clip range where the advantage has
    # the other sign, so that the loss is not clipped.
    "clip_ratio/low_mean": 'clipped_ratio{side="low"}',
    "clip_ratio/high_mean": 'clipped_ratio{side="high"}',
    "cispo_clip_ratio": 'clipped_ratio{side="high"}',
}

_REWARD = re.compile(r"rewards/(?P<function>.+)/(?P<kind>mean|std)")
_NOT_IN_LABELS = re.compile(r'["\\\n]')


@dataclass(frozen=True, slots=True)
class Window:
    """What happened since the log before.

    ``optimizer_steps``; ``completions`` that were generated, over all processes.
    """

    optimizer_steps: int = 0
    completions: int = 0


def measures_policy(logs: Mapping[str, Any]) -> bool:
    """Whether it is a log of training steps. One of an evaluation has neither key; nor has the last summary."""
    return "entropy" in logs or "loss" in logs


def record_arguments(logs: Mapping[str, Any], window: Window, *, entropy: bool) -> dict[str, Any]:
    """One log as arguments of ``record``, without environment metrics.

    ``entropy``: whether there were tokens, so that the logged entropy was measured.
    """
    found = {field: logs[key] for key, field in _FIELDS.items() if key in logs}
    found["policy_loss"] = logs.get("policy_loss", logs.get("loss"))
    if entropy and logs.get("entropy") is not None:
        found["entropy"] = {HEAD: logs["entropy"]}
    if logs.get("step_time") is not None:
        found["update_duration"] = logs["step_time"] * window.optimizer_steps
    found["episodes"] = window.completions
    # The mean over generations of equal size: the product is a whole number but for float32.
    found["environment_steps"] = round((logs.get("completions/mean_length") or 0.0) * window.completions)
    return found


def reports(logs: Mapping[str, Any], *, penalized: bool) -> dict[str, float]:
    """The environment metrics of a log. ``penalized``: its ``kl`` is that to the reference model."""
    found: dict[str, float] = {}
    for key, value in logs.items():
        name = _report_name(key, penalized=penalized)
        if name is not None and value is not None:
            found[name] = value
    return found


def _report_name(key: str, *, penalized: bool) -> str | None:
    if key == "kl":
        return "reference_kl_nats" if penalized else None
    reward = _REWARD.fullmatch(key)
    if reward is None:
        return _REPORTS.get(key)
    function = _NOT_IN_LABELS.sub("_", reward["function"])
    name = "function_reward" if reward["kind"] == "mean" else "function_reward_std"
    return f'{name}{{function="{function}"}}'
