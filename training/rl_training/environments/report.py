"""What an environment says in the ``info`` of an episode's last step, beside its observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

_KEY = "rl_report"


@dataclass(frozen=True, slots=True)
class Report:
    """``metrics``: numbers by name, as the environment gave them, not checked. ``drawing``: text for people."""

    metrics: object = None
    drawing: str = ""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Report:
        """What ``info["metrics"]`` and ``info["drawing"]`` say, where an environment has them."""
        return cls(info.get("metrics"), str(info.get("drawing", "")))


class Reporting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Of ``info``, hands on the report of an episode as a whole, with its last step, and nothing else.

    Gymnasium's vectors would stack the values of all copies in an array of the first one's type and shape:
    beside a 3, a 2.5 would become 2, and a text, None, or a list of another length would raise.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new episode."""
        return self.env.reset(seed=seed, options=options)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        ends = (terminated or truncated) and ("metrics" in info or "drawing" in info)
        return observation, reward, terminated, truncated, {_KEY: Report.of(info)} if ends else {}


def stacked(reports: Mapping[int, Report], copies: int) -> dict[str, Any]:
    """The ``infos`` of a vector environment whose copies end their episodes with these reports, by index."""
    values = np.full(copies, None, dtype=object)
    for index, report in reports.items():
        values[index] = report
    return {"final_info": {_KEY: values}}


def reports_of(infos: Mapping[str, Any], ended: npt.NDArray[np.bool_]) -> dict[int, Report]:
    """The reports in the ``infos`` of a step, by the index of the copy whose episode ended with it."""
    # A vector that does not start the next episode by itself has no ``final_info``.
    values = infos.get("final_info", infos).get(_KEY)
    if values is None:
        return {}
    return {int(index): values[index] for index in np.flatnonzero(ended) if values[index] is not None}
