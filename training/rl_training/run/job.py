"""The parts of a run, made from its settings: environment, agent, aggregator, identity, checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import torch

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.heads import Heads
from rl_exporter.identity import Identity
from rl_exporter.payload import PPOUpdateHandler
from rl_exporter.snapshot import RunInfo
from rl_training.algorithm.ppo import PPOAgent, with_multipliers
from rl_training.config import BadInputError, Settings
from rl_training.distributed.rendezvous import require_same, require_shareable
from rl_training.environments.adapter import TrainingEnvironment, make_environment
from rl_training.environments.declared import EnvironmentSetupError
from rl_training.ranks import Ranks
from rl_training.run.checkpoint import Checkpoint, load
from rl_training.run.checkpoint_folder import CheckpointError, prepare
from rl_training.run.intervention import Intervention, intervention_of
from rl_training.run.registration import take_identity
from rl_training.run.terminal_panel import require_panel


@dataclass(frozen=True, slots=True)
class Job:
    """The parts of a run; ``resumed`` is the checkpoint that it continues from.

    ``intervention`` is there where ``--entropy-controller`` is not off.
    """

    settings: Settings
    ranks: Ranks
    environment: TrainingEnvironment
    agent: PPOAgent
    aggregator: SanctumAggregator
    resumed: Checkpoint | None
    identity: Identity
    intervention: Intervention | None = None

    @property
    def recorded_by(self) -> PPOUpdateHandler:
        """Takes every update first; what shows and writes updates reads the aggregator after it."""
        return self.intervention or self.aggregator


def make_job(settings: Settings, ranks: Ranks, device: torch.device, stack: ExitStack) -> Job:
    """Make the parts of a run; the stack closes the environment and the identity. Raises BadInputError."""
    # First: every later step assumes that all ranks would take it in the same way.
    require_same(settings, ranks)
    require_shareable(settings, ranks.size)
    if settings.output.tui:
        _require_panel()
    # Before the environment, whose worker processes take seconds to start.
    resuming = _prepared_checkpoint(settings, ranks)
    environment, agent = _agent(settings, device, ranks)
    stack.callback(environment.close)
    # After the agent: a checkpoint has to fit its shape.
    resumed = _resumed(settings, agent) if resuming else None
    snapshot = resumed.snapshot if resumed else None
    former = snapshot.run.run_id if snapshot else None
    identity = stack.enter_context(closing(take_identity(settings, former, ranks.rank)))
    aggregator = SanctumAggregator(
        agent.heads,
        _run_info(settings, agent, ranks, identity.run_id),
        entropy_coefficient=agent.config.entropy_coefficient,
        resumed=snapshot,
    )
    intervention = intervention_of(settings.learning, agent, aggregator, resumed)
    return Job(settings, ranks, environment, agent, aggregator, resumed, identity, intervention)


def _require_panel() -> None:
    try:
        require_panel()
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _prepared_checkpoint(settings: Settings, ranks: Ranks) -> bool:
    """Whether the run resumes; makes its folder. Rank 0 writes checkpoints, and all ranks read them."""
    run = settings.run
    resume = run.resume or run.resume_from is not None
    if run.checkpoint is None:
        if resume:
            option = "--resume" if run.resume else "--resume-from"
            raise BadInputError(f"{option} needs the folder to go on from; give --checkpoint DIR")
        if run.keep_checkpoints > 1:
            raise BadInputError("--keep-checkpoints needs the folder to keep them in; give --checkpoint DIR")
        return False
    try:
        if not ranks.rank:
            prepare(run.checkpoint, resume=resume)
    except CheckpointError as error:
        raise BadInputError(str(error)) from error
    return resume


def _resumed(settings: Settings, agent: PPOAgent) -> Checkpoint:
    assert settings.run.checkpoint is not None
    try:
        return load(settings.run.checkpoint, agent, settings.run.resume_from)
    except CheckpointError as error:
        raise BadInputError(str(error)) from error


def _agent(settings: Settings, device: torch.device, ranks: Ranks) -> tuple[TrainingEnvironment, PPOAgent]:
    run, config = settings.run, settings.learning
    try:
        environment = make_environment(run.env, run.num_envs // ranks.size, settings.environment)
    except EnvironmentSetupError as error:
        raise BadInputError(str(error)) from error
    try:
        heads = _declared(environment.heads, settings)
        with allocating(config.hidden, device, "give a smaller --hidden"):
            size = environment.observation_size
            return environment, PPOAgent(heads, size, config, seed=run.seed, device=device, ranks=ranks)
    except BadInputError:
        environment.close()
        raise


@contextmanager
def allocating(hidden: int, device: torch.device, remedy: str) -> Iterator[None]:
    """Raise BadInputError, with the remedy, where the device has no memory for a policy of ``hidden`` units."""
    try:
        yield
    except RuntimeError as error:
        # torch has no kind of error for it on a CPU, nor for sizes beyond the numbers that count bytes.
        if not any(word in str(error) for word in ("allocate", "overflow")):
            raise
        raise BadInputError(f"cannot allocate a policy of --hidden {hidden} on {device}; {remedy}") from error


def _declared(heads: Heads, settings: Settings) -> Heads:
    """The heads with what the options say of them. Raises BadInputError."""
    option = "--entropy-multiplier"
    try:
        heads = with_multipliers(heads, settings.learning.entropy_multiplier)
        option = "--threshold"
        for name, (warning, critical) in settings.output.threshold.items():
            heads = heads.replaced(name, warning=warning, critical=critical)
        option = "--reference"
        for name, reference in settings.output.reference.items():
            heads = heads.replaced(name, reference=reference)
    except ValueError as error:
        raise BadInputError(f"{option}: {error}") from error
    return heads


def _run_info(settings: Settings, agent: PPOAgent, ranks: Ranks, run_id: str) -> RunInfo:
    run = settings.run
    return RunInfo(
        run_id=run_id,
        experiment=run.experiment,
        algorithm="ppo",
        environment=run.env,
        seed=str(run.seed),
        device=str(agent.device),
        world_size=ranks.size,
    )


def usable_device(name: str) -> torch.device:
    """The device of that name, after a first number has come back from it. Raises BadInputError."""
    try:
        device = torch.device(name)
        # A name can be well formed and the device absent, or without memory; a number that comes back shows it.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        seen = torch.cuda.device_count() if name.startswith("cuda") else 0
        remedy = "give --device cpu"
        if seen:
            remedy = f"GPUs here: {seen}, one for each rank; start fewer ranks, name one of them, or {remedy}"
        raise BadInputError(f"--device {name!r} is not there: {reason[:160]}; {remedy}") from error
    return device
