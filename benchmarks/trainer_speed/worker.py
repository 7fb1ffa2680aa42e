"""One trainer in a process of its own: ``python -m benchmarks.trainer_speed.worker NAME UNITS``.

Each line on its standard input asks for some updates, ``run N``, ``parts N`` or ``products N``, and gets one
line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.trainer_speed.ours import OurTrainer
from benchmarks.trainer_speed.peers import Peer
from benchmarks.trainer_speed.setting import Cost, Setting

OURS, RECURRENT = "rl-train", "RecurrentPPO"
SHARED, SMALLER, FORGETFUL = "rl-train --critic shared", "RecurrentPPO without encoders", "PPO without memory"
SUBJECTS: Mapping[str, Callable[[Setting], Any]] = MappingProxyType(
    {
        OURS: OurTrainer,
        RECURRENT: lambda setting: Peer(setting, recurrent=True),
        SHARED: lambda setting: OurTrainer(setting, critic="shared"),
        SMALLER: lambda setting: Peer(setting, recurrent=True, encoder=False),
        FORGETFUL: lambda setting: Peer(setting, recurrent=False),
    }
)
WARM_UP = 2
"""Updates before the first measured one."""


class Worker:
    """The other end: starts such a process, and asks it."""

    def __init__(self, name: str, units: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(units)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, updates: int) -> Cost:
        """CPU seconds of some updates more."""
        return Cost(*self._ask(f"run {updates}"))

    def parts(self, updates: int) -> dict[str, float]:
        """CPU seconds of each part of some updates more."""
        found: dict[str, float] = self._ask(f"parts {updates}")
        return found

    def products(self, updates: int) -> float:
        """CPU seconds of some updates more within products of matrices."""
        return float(self._ask(f"products {updates}"))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, request: str) -> Any:
        assert self._process.stdin is not None, "Popen got PIPE"
        assert self._process.stdout is not None, "Popen got PIPE"
        print(request, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def main(name: str, units: int) -> None:
    """Answer requests until the end of the input."""
    torch.set_num_threads(1)
    subject = SUBJECTS[name](Setting(units))
    subject.run(WARM_UP)
    for line in sys.stdin:
        request, updates = line.split()
        print(json.dumps(getattr(subject, request)(int(updates))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
