"""The last good state of a run in a folder: written atomically, and read without executing anything in it."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.snapshot import SanctumSnapshot
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent

FILE_NAME = "checkpoint.pt"
_FORMAT = 1
_SHAPE_WORDS = {
    "heads": "action space",
    "observation_size": "observation size",
    "hidden": "number of hidden units",
}
_LOG = logging.getLogger("rl_training")


class CheckpointError(ValueError):
    """A checkpoint that this run cannot use; the message names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two updates: the state of agent and collector, and the last snapshot."""

    agent: dict[str, Any]
    progress: dict[str, Any]
    snapshot: SanctumSnapshot


def save(folder: Path, agent: PPOAgent, collector: RolloutCollector, snapshot: SanctumSnapshot) -> None:
    """Write a checkpoint; a kill at any moment leaves either the former one or this one. Raises OSError.

    It keeps the snapshot as the /metrics body that shows it, so that no second format has to follow the first.
    """
    state = {
        "format": _FORMAT,
        "shape": _shape(agent),
        "agent": agent.state(),
        "progress": collector.progress(),
        "metrics": Renderer(lambda: snapshot).render("")[0].decode(),
    }
    temporary = folder / f"{FILE_NAME}.writing"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / FILE_NAME)
    # A rename survives a power failure only once the folder itself is on the disk.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(folder: Path, agent: PPOAgent) -> Checkpoint:
    """Read the checkpoint in ``folder``, which must fit the agent. Raises CheckpointError."""
    path = folder / FILE_NAME
    try:
        # weights_only: a checkpoint from elsewhere could otherwise run code while it loads.
        state = torch.load(path, map_location=agent.device, weights_only=True)
        if state["format"] != _FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {state['format']!r}, not {_FORMAT}; start anew"
            )
        _require_same_shape(path, state["shape"], _shape(agent))
        return Checkpoint(state["agent"], state["progress"], parse_snapshot(state["metrics"]))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; leave --resume out to start a run") from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: {error.strerror}; give one that can be read") from error
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, NotAnExporterError) as error:
        raise CheckpointError(
            f"checkpoint {path} is cut off or no checkpoint of rl-train; give another folder, or start anew"
        ) from error


def prepare(folder: Path, *, resume: bool) -> None:
    """Make the folder. Raises CheckpointError, also if a new run would overwrite the state of another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"--checkpoint {str(folder)!r}: {error.strerror}; give a folder") from error
    if not resume and (folder / FILE_NAME).exists():
        raise CheckpointError(
            f"{folder / FILE_NAME} holds the state of a run; go on with --resume, or give another folder"
        )


def _shape(agent: PPOAgent) -> dict[str, Any]:
    return {
        "heads": [[head.name, head.choices] for head in agent.heads],
        "observation_size": agent.network.encoder.in_features,
        "hidden": agent.network.hidden,
    }


def _require_same_shape(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, word in _SHAPE_WORDS.items():
        if found[key] != wanted[key]:
            raise CheckpointError(
                f"checkpoint {path} is of another {word}: {_shown(found[key])}, not {_shown(wanted[key])}; "
                "give the options that the run was started with"
            )


def _shown(value: Any) -> str:
    return " ".join(f"{name}:{choices}" for name, choices in value) if isinstance(value, list) else str(value)


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

    After a write that fails, it logs the error, the former checkpoint stays, and training continues.
    """

    def __init__(
        self, folder: Path, agent: PPOAgent, collector: RolloutCollector, view: CheckpointedView
    ) -> None:
        self._folder = folder
        self._agent = agent
        self._collector = collector
        self._view = view

    def write(self, snapshot: SanctumSnapshot) -> None:
        """Write the present state, then show it."""
        try:
            save(self._folder, self._agent, self._collector, snapshot)
        except OSError as error:
            _LOG.error("checkpoint in %s not written: %s; the former one stays", self._folder, error.strerror)
        self._view.open()
