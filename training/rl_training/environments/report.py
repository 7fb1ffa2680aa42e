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
    """Hands the report of an episode on as a whole, with its last step.

    Gymnasium's vectors would stack the numbers of all copies in an array of the first one's type: beside a 3, a
    2.5 would become 2, and a text would raise. A mapping of each step would cost every step.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if "metrics" in info or "drawing" in info:
            report = Report.of(info) if terminated or truncated else None
            # Copied: the dictionary is the environment's.
            info = {key: value for key, value in info.items() if key not in {"metrics", "drawing"}}
            if report is not None:
                info[_KEY] = report
        return observation, reward, terminated, truncated, info


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
