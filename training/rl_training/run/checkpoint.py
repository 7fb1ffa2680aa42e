"""The state of a run between two updates, and its checkpoint: written whole, checked when it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.snapshot import SanctumSnapshot
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.run.checkpoint_file import DamagedError, read_state, write_state
from rl_training.run.checkpoint_folder import NEWEST, CheckpointFolder

_FORMATS = (1, 2)
_SHAPE_WORDS = {
    "heads": "action space",
    "observation_size": "observation size",
    "hidden": "number of hidden units",
}
_LARGEST_COUNT = 2**62
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
        "format": _FORMATS[-1],
        "shape": _shape(agent),
        "agent": agent.state(),
        "progress": collector.progress(),
        "metrics": Renderer(lambda: snapshot).render("")[0].decode(),
    }
    write_state(folder / NEWEST, state)


def load(folder: Path, agent: PPOAgent, which: str | None = None) -> Checkpoint:
    """Read a checkpoint in ``folder``, which must fit the agent, and bring the agent into its state.

    ``which``: ``best``, the number of an update, or None for the newest. Raises CheckpointError.
    """
    kept = CheckpointFolder(folder)
    path = kept.path(which)
    try:
        state = read_state(path, agent.device)
        if state.get("format") not in _FORMATS:
            raise CheckpointError(
                f"checkpoint {path} has format {state.get('format')!r}, not {_FORMATS[-1]}; start anew"
            )
        _require_same_shape(path, state["shape"], _shape(agent))
        checkpoint = Checkpoint(state["agent"], state["progress"], _snapshot(state["metrics"], agent))
        _require_possible(checkpoint, agent)
        agent.restore(checkpoint.agent)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(_missing(kept, path)) from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: {error.strerror}; give one that can be read") from error
    except DamagedError as error:
        raise CheckpointError(f"checkpoint {path} {error}; {_others(kept, path)}") from error
    except Exception as error:  # a state that somebody else made may be wrong in any way
        raise CheckpointError(
            f"checkpoint {path} is no checkpoint of rl-train: {_reason(error)}; {_others(kept, path)}"
        ) from error
    return checkpoint


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}"


def _missing(kept: CheckpointFolder, path: Path) -> str:
    others = [name for name in kept.names() if name != "newest"]
    if others:
        return f"there is no checkpoint {path}; --resume-from takes {', '.join(others)}"
    return f"there is no checkpoint {path}; leave --resume out to start a run"


def _others(kept: CheckpointFolder, path: Path) -> str:
    others = [name for name in kept.names() if kept.path(name) != path]
    if others:
        return f"go on from another one, --resume-from {' or '.join(others)}"
    return "give another folder, or start anew"


def _snapshot(metrics: object, agent: PPOAgent) -> SanctumSnapshot:
    snapshot = parse_snapshot(str(metrics))
    if snapshot.tamiyo.heads.sizes != agent.heads.sizes:
        raise NotAnExporterError("its numbers are those of other heads")
    return snapshot


def _require_possible(checkpoint: Checkpoint, agent: PPOAgent) -> None:
    """Raise TypeError or ValueError for what would only end the run later, in its training."""
    episodes, returns = checkpoint.progress["episodes"], checkpoint.progress["returns"]
    if not episodes or not all(type(count) is int and 0 <= count < _LARGEST_COUNT for count in episodes):
        raise ValueError("its episodes are no counts")
    if not all(type(value) in {int, float} for value in returns):
        raise TypeError("its returns are no numbers")
    own, given = agent.state(), checkpoint.agent
    sums = given.get("advantage_sums")
    if sums is not None and sums.shape != own["advantage_sums"].shape:
        raise ValueError("its advantage sums are of another size")
    _require_moments(given["optimizer"]["state"], list(agent.network.parameters()))


def _require_moments(state: Mapping[int, Mapping[str, Any]], parameters: Sequence[torch.Tensor]) -> None:
    """The optimiser takes moments of any size, and fails in its next step."""
    for number, moments in state.items():
        shapes = {(), tuple(parameters[number].shape)}
        if any(tuple(moment.shape) not in shapes for moment in moments.values()):
            raise ValueError("its optimizer state is of another size")


def prepare(folder: Path, *, resume: bool) -> None:
    """Make the folder. Raises CheckpointError, also if a new run would overwrite the state of another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = CheckpointFolder(folder).names()
    except OSError as error:
        raise CheckpointError(f"--checkpoint {str(folder)!r}: {error.strerror}; give a folder") from error
    if names and not resume:
        raise CheckpointError(
            f"{CheckpointFolder(folder).path(names[0])} holds the state of a run; go on with --resume, "
            "or give another folder"
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
    text = " ".join(_named(value)) if isinstance(value, list) else str(value)
    return " ".join(text.split())[:300]


def _named(heads: list[Any]) -> Iterator[str]:
    for head in heads:
        yield ":".join(map(str, head)) if isinstance(head, list) else str(head)


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

    ``keep`` is how many updates keep theirs. After a write that fails, it logs the error, the former checkpoint
    stays, and training continues.
    """

    def __init__(
        self, folder: Path, agent: PPOAgent, collector: RolloutCollector, view: CheckpointedView, keep: int = 1
    ) -> None:
        self._folder = folder
        self._kept = CheckpointFolder(folder, keep, best=_best_so_far(folder, agent.device))
        self._agent = agent
        self._collector = collector
        self._view = view
        self._failing = False

    def write(self, snapshot: SanctumSnapshot) -> None:
        """Write the present state, then show it."""
        try:
            save(self._folder, self._agent, self._collector, snapshot)
            self._kept.keep(snapshot)
        except Exception as error:  # noqa: BLE001 - a run that trains is worth more than its checkpoint
            self._failed(error)
        else:
            self._failing = False
        self._view.open()

    def _failed(self, error: Exception) -> None:
        """Log only the first of consecutive errors: a full disk must not fill the log, which may be on it."""
        if not self._failing:
            reason = getattr(error, "strerror", None) or _reason(error)
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
