"""The state of a run between two updates, and its checkpoint: written whole, checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.environment_metrics import series_of
from rl_exporter.memory import memories_of, memory_states
from rl_exporter.snapshot import SanctumSnapshot
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.policy.value import PopArtValue
from rl_training.run.checkpoint_file import DamagedError, read_state, write_state
from rl_training.run.checkpoint_folder import NEWEST, CheckpointError, CheckpointFolder

_FORMATS = (1, 2, 3)
_SHAPE_WORDS = {
    "heads": "action space",
    "observation_size": "observation size",
    "hidden": "number of hidden units",
    "critic": "critic",
}
_LARGEST_COUNT = 2**62


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two updates: the state of agent and collector, and the last snapshot.

    ``controller`` is that of ``--entropy-controller``; empty in a run without.
    """

    agent: dict[str, Any]
    progress: dict[str, Any]
    snapshot: SanctumSnapshot
    controller: dict[str, Any] = field(default_factory=dict)


class Origin(NamedTuple):
    """What a checkpoint says of the run that wrote it; ``settings`` are empty in those of former versions."""

    path: Path
    shape: dict[str, Any]
    settings: str


class Remedies(NamedTuple):
    """What to do about a checkpoint that cannot be used: words for the ends of error messages."""

    option: str
    missing: str
    another: str
    damaged: str


RESUMING = Remedies(
    option="--resume-from",
    missing="leave --resume out to start a run",
    another="go on from another one",
    damaged="give another folder, or start anew",
)


def save(
    folder: Path,
    agent: PPOAgent,
    collector: RolloutCollector,
    snapshot: SanctumSnapshot,
    settings: str = "",
    controller: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a checkpoint; a kill at any moment leaves either the former one or this one. Raises OSError.

    It keeps the snapshot as the /metrics body that shows it, so that no second format has to follow the first,
    and apart what /metrics does not show. ``settings`` say what the policy was trained on and how, as JSON: see
    ``kept_settings``. ``controller`` is the state of the entropy controller.
    """
    state = {
        "format": _FORMATS[-1],
        "shape": _shape(agent),
        "agent": agent.state(),
        "progress": collector.progress(),
        "metrics": Renderer(lambda: snapshot).render("")[0].decode(),
        "memories": memory_states(snapshot.tamiyo.memories),
        "settings": settings,
        "controller": dict(controller),
    }
    write_state(folder / NEWEST, state)


def load(folder: Path, agent: PPOAgent, which: str | None = None, remedies: Remedies = RESUMING) -> Checkpoint:
    """Read a checkpoint in ``folder``, which must fit the agent, and bring the agent into its state.

    ``which``: ``best``, the number of an update, or None for the newest. Raises CheckpointError.
    """
    kept = CheckpointFolder(folder)
    path = kept.path(which)
    with _one_line_errors(kept, path, remedies):
        state = _known_format(path, agent.device)
        _require_same_shape(path, state["shape"], _shape(agent))
        checkpoint = Checkpoint(
            state["agent"],
            state["progress"],
            _snapshot(state["metrics"], state.get("memories", {}), agent),
            dict(state.get("controller", {})),
        )
        _require_possible(checkpoint, agent)
        agent.restore(checkpoint.agent)
    return checkpoint


RENAMED = {
    "encoder.": "actor.encoder.",
    "lstm.": "actor.lstm.",
    "value.0.": "value.hidden.",
    "value.2.": "value.output.",
}
"""Parameters of the network before format 3, where the critic read the trunk of the actor."""


def _migrated(state: dict[str, Any]) -> dict[str, Any]:
    """A state of an earlier format in the present one; its critic is a shared one."""
    if state["format"] >= 3:
        return state
    network = {
        next(
            (new + name.removeprefix(old) for old, new in RENAMED.items() if name.startswith(old)), name
        ): value
        for name, value in state["agent"]["network"].items()
    }
    network.update({f"value.{name}": value for name, value in PopArtValue(1).named_buffers()})
    return {
        **state,
        "shape": {**state["shape"], "critic": "shared"},
        "agent": {**state["agent"], "network": network},
    }


def read_origin(folder: Path, which: str | None = None, remedies: Remedies = RESUMING) -> Origin:
    """What a checkpoint says of the run that wrote it. Raises CheckpointError."""
    kept = CheckpointFolder(folder)
    path = kept.path(which)
    with _one_line_errors(kept, path, remedies):
        state = _known_format(path, torch.device("cpu"))
        return Origin(path, dict(state["shape"]), str(state.get("settings", "")))


def _known_format(path: Path, device: torch.device) -> dict[str, Any]:
    state = read_state(path, device)
    if state.get("format") not in _FORMATS:
        raise CheckpointError(
            f"checkpoint {path} has format {state.get('format')!r}, not {_FORMATS[-1]}; start anew"
        )
    return _migrated(state)


@contextmanager
def _one_line_errors(kept: CheckpointFolder, path: Path, remedies: Remedies) -> Iterator[None]:
    """Raise CheckpointError for whatever is wrong with a checkpoint, with what to do instead."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(_missing(kept, path, remedies)) from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: {error.strerror}; give one that can be read") from error
    except DamagedError as error:
        raise CheckpointError(f"checkpoint {path} {error}; {_others(kept, path, remedies)}") from error
    except Exception as error:  # a state that somebody else made may be wrong in any way
        others = _others(kept, path, remedies)
        raise CheckpointError(
            f"checkpoint {path} is no checkpoint of rl-train: {reason_of(error)}; {others}"
        ) from error


def reason_of(error: Exception) -> str:
    """An unexpected error, on one line."""
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}"


def _names(kept: CheckpointFolder) -> list[str]:
    """The checkpoints that there are; none where there is no folder."""
    try:
        return kept.names()
    except OSError:
        return []


def _missing(kept: CheckpointFolder, path: Path, remedies: Remedies) -> str:
    others = [name for name in _names(kept) if name != "newest"]
    if others:
        return f"there is no checkpoint {path}; {remedies.option} takes {', '.join(others)}"
    return f"there is no checkpoint {path}; {remedies.missing}"


def _others(kept: CheckpointFolder, path: Path, remedies: Remedies) -> str:
    others = [name for name in _names(kept) if kept.path(name) != path]
    if others:
        return f"{remedies.another}, {remedies.option} {' or '.join(others)}"
    return remedies.damaged


def _snapshot(metrics: object, memories: dict[str, Any], agent: PPOAgent) -> SanctumSnapshot:
    """As it was rendered. Checkpoints of former versions have no memories."""
    snapshot = parse_snapshot(str(metrics))
    if snapshot.tamiyo.heads.sizes != agent.heads.sizes:
        raise NotAnExporterError("its numbers are those of other heads")
    return replace(snapshot, tamiyo=replace(snapshot.tamiyo, memories=memories_of(memories)))


def _require_possible(checkpoint: Checkpoint, agent: PPOAgent) -> None:
    """Raise TypeError or ValueError for what would only end the run later, in its training."""
    episodes, returns = checkpoint.progress["episodes"], checkpoint.progress["returns"]
    if not episodes or not all(type(count) is int and 0 <= count < _LARGEST_COUNT for count in episodes):
        raise ValueError("its episodes are no counts")
    if not all(type(value) in {int, float} for value in returns):
        raise TypeError("its returns are no numbers")
    _require_possible_reports(checkpoint.progress)
    own, given = agent.state(), checkpoint.agent
    for name, words in (("advantage_sums", "advantage sums are"), ("advantage_scale", "advantage scale is")):
        if name in given and given[name].shape != own[name].shape:
            raise ValueError(f"its {words} of another size")
    _require_moments(given["optimizer"]["state"], list(agent.network.parameters()))


def _require_possible_reports(progress: Mapping[str, Any]) -> None:
    """Lengths and metrics of the last episodes, which checkpoints of former versions lack."""
    if not all(type(length) is int and 0 < length < _LARGEST_COUNT for length in progress.get("lengths", ())):
        raise ValueError("its lengths of episodes are no counts")
    for numbers in progress.get("metrics", ()):
        for key, value in numbers.items():
            series_of(key)
            if type(value) is not float:
                raise TypeError("its metrics are no numbers")


def _require_moments(state: Mapping[int, Mapping[str, Any]], parameters: Sequence[torch.Tensor]) -> None:
    """The optimiser takes moments of any size, and fails in its next step."""
    for number, moments in state.items():
        shapes = {(), tuple(parameters[number].shape)}
        if any(tuple(moment.shape) not in shapes for moment in moments.values()):
            raise ValueError("its optimizer state is of another size")


def _shape(agent: PPOAgent) -> dict[str, Any]:
    return {
        "heads": [[head.name, head.choices] for head in agent.heads],
        "observation_size": agent.network.observation_size,
        "hidden": agent.network.hidden,
        "critic": agent.config.critic,
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
