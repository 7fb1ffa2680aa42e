"""``rl-train play``: replays the policy of a checkpoint and prints what it did."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from rl_exporter.environment_metrics import EnvironmentMetrics
from rl_exporter.view import cells
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import BadInputError, PPOConfig, Settings
from rl_training.environments.adapter import TrainingEnvironment, make_single
from rl_training.environments.declared import EnvironmentSetupError
from rl_training.run.checkpoint import Checkpoint, Origin, Remedies, load, read_origin
from rl_training.run.checkpoint_folder import CheckpointError
from rl_training.run.job import allocating, usable_device
from rl_training.run.kept_settings import Kept, parsed_settings
from rl_training.run.player import Played, Player, RenderError
from rl_training.run.settings import SettingsError, build_settings, settings_of

_TEXT_ENVIRONMENT = "growing-network"
"""It describes each step in a line, so it is rendered unless a person asks for less."""

_REMEDIES = Remedies(
    option="--which",
    missing="give the folder that a run had as its --checkpoint",
    another="replay another one",
    damaged="give another folder",
)

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")

Write = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What to replay, and how. ``env`` and ``arguments`` say what the checkpoint does not, or replace it."""

    folder: Path
    which: str | None
    env: str | None
    arguments: Mapping[str, Any]
    episodes: int
    render: bool | None
    greedy: bool
    seed: int
    device: str
    colour: bool
    """Whether what an environment draws keeps its colours: a terminal shows them."""


def play(replay: Replay, write: Write) -> None:
    """Replay the episodes, and write what they did in whole lines.

    Raises BadInputError in one line, and whatever the environment raises.
    """
    device = usable_device(replay.device)
    torch.set_num_threads(1)
    try:
        origin = read_origin(replay.folder, replay.which, _REMEDIES)
        settings = _settings(replay, origin)
        render = replay.render if replay.render is not None else settings.run.env == _TEXT_ENVIRONMENT
        environment = make_single(settings.run.env, settings.environment, render=render)
        with closing(environment):
            agent = _agent(environment, settings.learning, device)
            checkpoint = load(replay.folder, agent, replay.which, _REMEDIES)
            write(_headline(replay, origin, settings, checkpoint))
            show = partial(_write_drawn, write, colour=replay.colour) if render else None
            _play_all(
                Player(agent, environment, seed=replay.seed, greedy=replay.greedy, show=show), replay, write
            )
    except (CheckpointError, EnvironmentSetupError, SettingsError) as error:
        raise BadInputError(str(error)) from error
    except SystemExit as error:
        raise BadInputError(f"the environment called sys.exit({error.code!r}); correct it") from error
    except RenderError as error:
        raise BadInputError(f"{error}; leave --render out, or correct the environment") from error


def _agent(environment: TrainingEnvironment, learning: PPOConfig, device: torch.device) -> PPOAgent:
    with allocating(learning.hidden, device, "replay the checkpoint where there is more memory"):
        return PPOAgent(environment.heads, environment.observation_size, learning, device=device)


def _settings(replay: Replay, origin: Origin) -> Settings:
    """What the policy was trained on and how: options, and for the rest what the checkpoint says."""
    kept = _kept(origin) if origin.settings else Kept(_of_shape(origin))
    values = dict(kept.values)
    known = values.get("run", {}).get("env")
    if replay.env is None and known is None:
        raise BadInputError(
            f"checkpoint {origin.path} does not say its environment: a former version wrote it; "
            "give --env NAME, and --env-arg where the run had some"
        )
    if replay.env is None and ":" in str(known):
        # A checkpoint may come from elsewhere, and an import runs code.
        raise BadInputError(
            f"checkpoint {origin.path} is of environment {known!r}, which imports a module; "
            f"give --env {known} where you trust it"
        )
    if replay.env not in {None, known}:
        values["environment"] = {}
    elif unknown := [key for key in kept.left_out if key not in replay.arguments]:
        raise BadInputError(
            f"checkpoint {origin.path} does not say the argument {unknown[0]!r} of its environment, "
            f"which no checkpoint can hold; give --env-arg {unknown[0]}=VALUE"
        )
    given: dict[str, Mapping[str, Any]] = {"environment": replay.arguments}
    if replay.env is not None:
        given["run"] = {"env": replay.env}
    return build_settings(values, given)


def _kept(origin: Origin) -> Kept:
    try:
        return parsed_settings(origin.settings)
    except SettingsError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"checkpoint {origin.path} has settings that this version does not take: {reason}; "
            "replay it with the version that wrote it"
        ) from error


def _of_shape(origin: Origin) -> Mapping[str, Mapping[str, Any]]:
    """What the shape of a policy says of its settings: all that a former version wrote."""
    known = settings_of(PPOConfig).items()
    return {"learning": {key: origin.shape[s.field.name] for key, s in known if s.field.name in origin.shape}}


def _headline(replay: Replay, origin: Origin, settings: Settings, checkpoint: Checkpoint) -> str:
    snapshot = checkpoint.snapshot
    mean = cells.number(snapshot.episode_return)
    chosen = "the most probable actions" if replay.greedy else "sampled actions"
    return (
        f"{origin.path}: {cells.printable(snapshot.run.run_id)}, {cells.printable(settings.run.env)}, "
        f"update {snapshot.tamiyo.updates}, mean return then {mean}; {chosen}"
    )


def _play_all(player: Player, replay: Replay, write: Write) -> None:
    metrics = EnvironmentMetrics(write)
    played: list[Played] = []
    for number in range(replay.episodes):
        episode = player.play(number)
        played.append(episode)
        _write_drawn(write, episode.report.drawing, colour=replay.colour)
        write(_line(number, episode, metrics))
    if len(played) > 1:
        write(_summary(played))


def _line(number: int, episode: Played, metrics: EnvironmentMetrics) -> str:
    numbers = {"return": episode.episode_return}
    # A drawing says the same in a better way.
    if episode.report.metrics is not None and not episode.report.drawing:
        numbers |= metrics.read(episode.report.metrics).numbers
    shown = "  ".join(f"{cells.printable(name)} {cells.number(value)}" for name, value in numbers.items())
    return f"episode {number + 1}  length {episode.length}  {shown}"


def _summary(played: Sequence[Played]) -> str:
    length = cells.number(fmean(episode.length for episode in played))
    returns = [episode.episode_return for episode in played if isfinite(episode.episode_return)]
    if not returns:
        return f"{len(played)} episodes  no return is finite  mean length {length}"
    mean, least, most = map(cells.number, (fmean(returns), min(returns), max(returns)))
    left_out = f", {len(played) - len(returns)} not finite" if len(returns) < len(played) else ""
    return f"{len(played)} episodes  mean return {mean} ({least} to {most}{left_out})  mean length {length}"


def _write_drawn(write: Write, text: str, *, colour: bool) -> None:
    """Write the lines of an environment's drawing. Nothing in it but its colours may steer the terminal."""
    for line in text.splitlines():
        parts = _COLOUR.split(line)
        parts[::2] = map(cells.printable, parts[::2])
        write("".join(parts if colour else parts[::2]))
