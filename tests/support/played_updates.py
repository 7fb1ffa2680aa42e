"""One update of the trainer on a real rollout, kept together with what the environments gave for it."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent, minibatches
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from tests.support.update_reference import Experience, episode_lengths, episode_returns, reference_update

ENVIRONMENTS, STEPS, PARTS, SEED = 5, 12, 2, 3
GERMINATE = 1
"""The one operation that consults the head ``tempo``."""

SETTINGS = MappingProxyType(
    {
        "rollout_steps": STEPS,
        "epochs": 3,
        "minibatches": PARTS,
        "learning_rate": 0.02,
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "entropy_coefficient": 0.05,
        "value_coefficient": 0.7,
        "max_gradient_norm": 1.5,
        "target_kl": 100.0,
        "hidden": 8,
    }
)


@dataclass(frozen=True)
class Case:
    """``germinate`` is added to the logit of that operation; ``poisoned``: (epoch, minibatch) whose values are not
    numbers. In float32, as runs are, two computations agree less closely."""

    consult: str = "table"
    episode_steps: int = 5
    germinate: float = 0.0
    poisoned: tuple[int, int] | None = None
    precision: torch.dtype = torch.float64
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tolerance(self):
        return 1e-6 if self.precision is torch.float64 else 1e-5


class PlayedUpdate:
    """The second update's worth of a run: ``result`` and ``payload`` of the trainer, and the reference's own.

    The policy moves between rollout and optimisation, so that importance ratios leave the clip range on both sides
    from the first minibatch on.
    """

    def __init__(self, case):
        self.case = case
        self.config = PPOConfig(**{**SETTINGS, **case.settings})
        arguments = {"consult": case.consult, "noise": 2, "episode_steps": case.episode_steps}
        self.environment = make_environment("heads", ENVIRONMENTS, arguments)
        self.heads = self.environment.heads
        self._agent = PPOAgent(self.heads, self.environment.observation_size, self.config, seed=SEED)
        self._agent.network.to(case.precision)
        self._disturb(0.3, seed=1)
        with torch.no_grad():
            self._agent.network.heads.bias_out[0, GERMINATE] += case.germinate
        self._outcomes = []
        self._record_outcomes()
        self._collector = self._make_collector()
        self._collector.collect(STEPS)
        self._update()

    def _make_collector(self):
        """A collector that hands the network numbers of its own precision."""
        agent = self._agent
        collector = RolloutCollector(self.environment, agent.network, seed=SEED, device=agent.device)
        tensor = collector._tensor

        def converted(array):
            found = tensor(array)
            return found.to(self.case.precision) if found.is_floating_point() else found

        collector._tensor = converted
        return collector

    def _record_outcomes(self):
        """Keep what the environments answer; in every other one an episode terminates, where it was truncated."""
        step = self.environment.step
        odd = np.arange(ENVIRONMENTS) % 2 == 1

        def recorded(actions):
            following, rewards, terminated, truncated, final = step(actions)
            outcome = (following, rewards, terminated | (truncated & odd), truncated & ~odd, final)
            self._outcomes.append(outcome)
            return outcome

        self.environment.step = recorded

    def _disturb(self, scale, seed):
        generator = np.random.default_rng(seed)
        with torch.no_grad():
            for parameter in self._agent.network.parameters():
                parameter.add_(torch.as_tensor(scale * generator.standard_normal(parameter.shape)))

    def _parameters(self):
        named = self._agent.network.named_parameters()
        units = ((f"value.{name}", getattr(self._agent.network.value, name)) for name in ("mean", "scale"))
        return {name: parameter.detach().double().numpy().copy() for name, parameter in (*named, *units)}

    def _update(self):
        """One turn of the training loop."""
        collect, update = self._collector.collect, self._agent._update_network

        def collected(steps, should_stop):
            self.rollout = collect(steps, should_stop)
            self.acted = self._parameters()
            self._disturb(0.15, seed=2)
            self.before = self._parameters()
            self._poison()
            return self.rollout

        def updated(rollout):
            self.result = update(rollout)
            return self.result

        self._collector.collect, self._agent._update_network = collected, updated
        train(self._agent, self._collector, Emitter([self], lambda: None), Limits(1, None), lambda: False)
        self.after = self._parameters()

    def handle_ppo_update(self, payload):
        self.payload = payload

    def _poison(self):
        if self.case.poisoned is None:
            return
        epoch, part = self.case.poisoned
        evaluations = count()

        def poison(module, inputs, values):
            return values * torch.nan if next(evaluations) == epoch * PARTS + part else values

        self._agent.network.value.register_forward_hook(poison)

    @cached_property
    def experience(self):
        """What the reference is given: nothing that the policy computed but its actions and the carried state."""
        rollout, table = self.rollout, self.environment.consulted
        _, rewards, terminated, truncated, final = map(np.stack, zip(*self._outcomes[-STEPS:], strict=True))
        return Experience(
            sizes=tuple(head.choices for head in self.heads),
            consulted=np.ones((1, len(self.heads)), dtype=bool) if table is None else table,
            state=tuple(part.double().numpy() for part in rollout.state),
            starts=rollout.starts,
            observations=rollout.observations.double().numpy(),
            masks=rollout.masks,
            actions=rollout.actions.numpy(),
            rewards=rewards.astype(np.float64),
            terminated=terminated,
            truncated=truncated,
            following=final.astype(np.float64),
        )

    @property
    def multipliers(self):
        return [head.entropy_multiplier for head in self.heads]

    @property
    def plan(self):
        """The environments of each minibatch of each epoch, as the trainer's generator draws them."""
        shuffle = np.random.default_rng([SEED, 1])
        return [minibatches(shuffle, ENVIRONMENTS, PARTS) for _ in range(self.config.epochs)]

    @cached_property
    def reference(self):
        return reference_update(
            self.before,
            self.experience,
            self.acted,
            self.plan,
            self.config,
            self.multipliers,
            self.case.poisoned,
        )

    @property
    def progress(self):
        """The numbers of a run that no loss has a part in; its first episodes began with its first rollout."""
        rewards = np.stack([outcome[1] for outcome in self._outcomes])
        ended = np.stack([outcome[2] | outcome[3] for outcome in self._outcomes])
        return {
            "environment_steps": ENVIRONMENTS * STEPS,
            "episodes": int(ended[-STEPS:].sum()),
            "episode_return": float(np.mean(episode_returns(rewards.astype(np.float64), ended))),
            "episode_length": float(np.mean(episode_lengths(ended))),
            "environment_metrics": {},
            "entropy_coefficient": self.config.entropy_coefficient,
            "learning_rate": self.config.learning_rate,
        }
