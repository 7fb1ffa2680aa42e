"""What hears of every update beside the aggregator and the display."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import IO

from rl_exporter.metrics import update_values
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import SanctumSnapshot


class JsonLog:
    """Writes one line per update, flushed, with the names and values of /metrics."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot], file: IO[str]) -> None:
        self._snapshot = snapshot
        self._file = file

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Write the update that the aggregator has just taken over."""
        del payload
        snapshot = self._snapshot()
        line = {"update": snapshot.tamiyo.updates, **update_values(snapshot)}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


class Pace:
    """Waits after each update, so that a person can watch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Wait."""
        del payload
        time.sleep(self._seconds)
