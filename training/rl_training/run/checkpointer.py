"""Writes a checkpoint after each update, and only then lets /metrics show that update."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rl_exporter.client.parse import parse_snapshot
from rl_exporter.snapshot import SanctumSnapshot
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.run.checkpoint import reason_of, save
from rl_training.run.checkpoint_file import read_state
from rl_training.run.checkpoint_folder import CheckpointFolder

_LOG = logging.getLogger("rl_training")


class CheckpointedView:
    """Shows only updates that a checkpoint holds, so that /metrics is never ahead of the checkpoint.

    A run that is killed and resumed then never shows counters that go backwards. A change of the run state
    shows at once.
    """

    def __init__(self, snapshot: Callable[[], SanctumSnapshot]) -> None:
        self._latest = snapshot
        self._shown = snapshot()

    def snapshot(self) -> SanctumSnapshot:
        """The last snapshot in a checkpoint, with the present state of the run."""
        return replace(self._shown, run_state=self._latest().run_state)

    def open(self) -> None:
        """Show the latest snapshot from now on."""
        self._shown = self._latest()


class Checkpointer:
    """Writes a checkpoint after each update, and only then lets /metrics show that update.

    ``keep`` is how many updates keep theirs; ``controller`` gives the state of the entropy controller. After a
    write that fails, it logs the error, the former checkpoint stays, and training continues.
    """

    def __init__(
        self,
        folder: Path,
        agent: PPOAgent,
        collector: RolloutCollector,
        view: CheckpointedView,
        keep: int = 1,
        settings: str = "",
        controller: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._folder = folder
        self._kept = CheckpointFolder(folder, keep, best=_best_so_far(folder, agent.device))
        self._agent = agent
        self._collector = collector
        self._view = view
        self._settings = settings
        self._controller = controller
        self._failing = False

    def write(self, snapshot: SanctumSnapshot) -> None:
        """Write the present state, then show it."""
        try:
            save(self._folder, self._agent, self._collector, snapshot, self._settings, self._controller())
            self._kept.keep(snapshot)
        except Exception as error:  # noqa: BLE001 - a run that trains is worth more than its checkpoint
            self._failed(error)
        else:
            self._failing = False
        self._view.open()

    def _failed(self, error: Exception) -> None:
        """Log only the first of consecutive errors: a full disk must not fill the log, which may be on it."""
        if not self._failing:
            reason = getattr(error, "strerror", None) or reason_of(error)
            _LOG.error(
                "checkpoint in %s not written: %s; the former one stays, and the run goes on",
                self._folder,
                reason,
            )
        self._failing = True


def _best_so_far(folder: Path, device: torch.device) -> SanctumSnapshot | None:
    """The snapshot of the best checkpoint in the folder; None where there is none that can be read."""
    try:
        return parse_snapshot(read_state(CheckpointFolder(folder).path("best"), device)["metrics"])
    except Exception:  # noqa: BLE001 - a damaged one is replaced by the next
        return None
