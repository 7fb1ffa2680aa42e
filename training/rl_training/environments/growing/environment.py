"""One growing network as a Gymnasium environment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from rl_training.action_space import HEAD_NAMES, OPERATIONS_TABLE, SIZES, Operation, Slot
from rl_training.environments.growing.data import digits
from rl_training.environments.growing.drawing import Outcome, architecture, step_line
from rl_training.environments.growing.host import GrowingNetwork, LearningRates, Score, plateau_weights
from rl_training.environments.growing.lifecycle import (
    Decision,
    IllegalDecisionError,
    Slots,
    Stage,
    decide,
    dormant_slots,
    pass_step,
)
from rl_training.environments.growing.masks import action_masks
from rl_training.environments.growing.metrics import episode_metrics
from rl_training.environments.growing.observation import (
    OBSERVATION_SIZE,
    HostReading,
    ModuleReading,
    Observation,
    observe,
)
from rl_training.environments.growing.options import GrowingOptions

Actions = npt.NDArray[np.int64]

FOSSIL_RENT = 0.5
"""Share of the rent that a fossilized module pays: making a module permanent pays off."""


@dataclass(slots=True)
class _EpisodeState:
    """How far an episode has come, and what its last step gave."""

    steps: int
    score: Score
    best: float
    """Highest validation accuracy of the episode."""
    gain: float = 0.0
    """Change of the validation accuracy in the last step."""
    training_loss: float = 3.0
    reward: float = 0.0


class GrowingNetworkEnv(gymnasium.Env[Observation, Actions]):
    """A policy grows a network on scikit-learn's digits; each step trains the host for one epoch.

    Reward: ``reward_scale`` x (gain in validation accuracy - ``rent`` x grown parameters / host parameters).
    An episode terminates when every slot is fossilized, or after ``episode_steps``. An action that
    ``action_masks`` does not allow counts as WAIT, and ``info["illegal"]`` says why. ``info["metrics"]`` and
    ``info["drawing"]`` of the last step say what grew; with ``render_mode="ansi"`` each step is a line of text.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        if render_mode not in {None, *self.metadata["render_modes"]}:
            raise ValueError(f"render_mode={render_mode!r} is not possible; give 'ansi'")
        self.render_mode = render_mode
        self.options = GrowingOptions(**options)
        self.head_names = HEAD_NAMES
        self.consulted_heads = OPERATIONS_TABLE
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATION_SIZE,), np.float32)
        self.action_space = gymnasium.spaces.MultiDiscrete(list(SIZES))
        self._slots = dormant_slots()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start with the host at its plateau; all randomness comes from this environment's own generator."""
        super().reset(seed=seed, options=options)
        # torch draws weights and batches; Gymnasium's NumPy generator seeds it, so one seed decides everything.
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**62)))
        own = self.options
        rates = LearningRates(own.host_learning_rate, own.module_learning_rate)
        weights = plateau_weights(own.plateau_epochs, own.samples, own.batch)
        self._network = GrowingNetwork(digits(), generator, rates, weights)
        self._slots = dormant_slots()
        score = self._network.validate(self._slots)
        self._episode = _EpisodeState(0, score, score.accuracy)
        self._decision = Decision(Operation.WAIT)
        self._operations: Counter[Operation] = Counter()
        return self._observe(), {}

    def step(self, action: Actions) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply the decision, let time pass in every slot, train for an epoch, validate."""
        info = self._decide(action)
        self._slots = tuple(pass_step(slot) for slot in self._slots)
        self._network.follow(self._slots)
        loss = self._network.train_epoch(self._slots, self.options.samples, self.options.batch)
        score = self._network.validate(self._slots)
        before = self._episode
        gain = score.accuracy - before.score.accuracy
        best = max(before.best, score.accuracy)
        reward = self.options.reward_scale * (gain - self.options.rent * self._rented())
        self._episode = _EpisodeState(before.steps + 1, score, best, gain, loss, reward)
        fossil = all(slot.stage is Stage.FOSSILIZED for slot in self._slots)
        terminated = fossil or self._episode.steps >= self.options.episode_steps
        if terminated:
            info |= {"metrics": self._metrics(), "drawing": self._drawing()}
        return self._observe(), reward, terminated, False, info

    def render(self) -> str | None:
        """The last step as a line of text, with ``render_mode="ansi"``."""
        if self.render_mode is None:
            return None
        episode, steps = self._episode, self.options.episode_steps
        outcome = Outcome(episode.steps, steps, episode.score.accuracy, episode.gain, episode.reward)
        return step_line(self._decision, outcome, self._slots)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Valid actions now, (operations, Σn)."""
        return action_masks(self._slots)

    @property
    def slots(self) -> Slots:
        """The states of the slots."""
        return self._slots

    @property
    def accuracy(self) -> float:
        """Validation accuracy now."""
        return self._episode.score.accuracy

    def _decide(self, action: Actions) -> dict[str, Any]:
        info = {}
        self._decision = Decision.of(action)
        try:
            self._slots = decide(self._slots, self._decision)
        except IllegalDecisionError as error:
            self._decision = Decision(Operation.WAIT)
            info = {"illegal": str(error)}
        self._operations[self._decision.operation] += 1
        return info

    def _parameters(self) -> list[int]:
        return [self._network.parameters_of(index) for index in range(len(Slot))]

    def _metrics(self) -> dict[str, float]:
        return episode_metrics(self._slots, self.accuracy, sum(self._parameters()), self._operations)

    def _drawing(self) -> str:
        return architecture(self._slots, self._parameters(), self._network.host_parameters, self.accuracy)

    def _size(self, index: int) -> float:
        return self._network.parameters_of(index) / self._network.host_parameters

    def _rented(self) -> float:
        shares = (FOSSIL_RENT if slot.stage is Stage.FOSSILIZED else 1.0 for slot in self._slots)
        return sum(share * self._size(index) for index, share in enumerate(shares))

    def _observe(self) -> Observation:
        episode, steps = self._episode, self.options.episode_steps
        reading = HostReading(
            time=episode.steps / steps,
            accuracy=episode.score.accuracy,
            gain=episode.gain,
            best_accuracy=episode.best,
            validation_loss=episode.score.loss,
            training_loss=episode.training_loss,
        )
        modules = tuple(ModuleReading(self._size(i), self._network.gradient_norm(i)) for i in range(len(Slot)))
        return observe(reading, self._slots, modules, steps)
