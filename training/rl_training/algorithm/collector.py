"""Collects rollouts: the policy acts in parallel environments, and the collector keeps what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.uploads import upload
from rl_training.action_space import BoolArray
from rl_training.algorithm.episodes import WINDOW, EpisodeReports, EpisodeWindow, Finished
from rl_training.algorithm.rollout_counts import RolloutCounts, counts_of_all_ranks
from rl_training.environments.adapter import TrainingEnvironment
from rl_training.policy.acting import sample_actions
from rl_training.policy.network import FactoredRecurrentActorCritic
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks


class StepMasks(NamedTuple):
    """What the heads could do at each step; the leading shape (…) is that of the steps."""

    decision: BoolArray
    """(…, Σn) mask of the sampled operation."""
    step: BoolArray
    """(…, Σn) what any valid operation that consults a head would allow it."""
    choice: BoolArray
    """(…, H) the sampled operation consulted the head and left it two or more valid choices."""
    open: BoolArray
    """(…, H) some valid operation would leave the head two or more choices."""


def step_masks(
    masks: BoolArray,
    operations: npt.NDArray[np.int64],
    layout: HeadLayout,
    consulted: BoolArray | None = None,
) -> StepMasks:
    """From masks (…, K, Σn) and sampled operations (…,) to what the heads could do, for all steps at once.

    Row k of a mask holds if the operation is k; K = 1 for a policy without operations. ``consulted`` (K, H)
    says which operation uses which head. Without it, a head whose segment allows only the canonical action
    counts as not consulted, because an environment gives exactly that segment to heads that it ignores.
    """
    decision = np.take_along_axis(masks, operations[..., None, None], axis=-2).squeeze(-2)
    counts = layout.counts(masks)
    choice = np.take_along_axis(counts, operations[..., None, None], axis=-2).squeeze(-2) >= 2
    kinds = masks.shape[-2]
    if kinds == 1:
        return StepMasks(decision, decision, choice, choice)
    valid = masks[..., 0, :kinds]
    uses = consulted if consulted is not None else (counts > 1) | ~masks[..., layout.offsets]
    reachable = valid[..., None] & uses
    segment = np.repeat(np.arange(len(layout.sizes)), layout.sizes)
    step: BoolArray = np.any(masks & reachable[..., segment], axis=-2)
    unreachable: BoolArray = ~np.any(reachable, axis=-2)
    # A step mask must allow something; the canonical action alone has an entropy of exactly 0.
    step[..., layout.offsets] |= unreachable
    opened: BoolArray = np.any(reachable & (counts >= 2), axis=-2)
    # The policy samples the operation first, so its own head does not depend on the operation.
    step[..., : layout.sizes[0]] = valid
    choice[..., 0] = opened[..., 0] = counts[..., 0, 0] >= 2
    return StepMasks(decision, step, choice, opened)


def dependent_heads(found: StepMasks, layout: HeadLayout) -> tuple[int, ...]:
    """Indices of the heads to which another operation would have left more choices, at some choice step."""
    if found.step is found.decision:
        return ()
    # At a choice step the step mask allows all that the decision mask does, so that the numbers tell.
    fewer = layout.counts(found.decision) < layout.counts(found.step)
    steps = tuple(range(fewer.ndim - 1))
    return tuple(np.flatnonzero((fewer & found.choice).any(axis=steps)).tolist())


class RolloutCollector:
    """Steps the environments with the policy; carries observations and recurrent state across rollouts.

    Each environment has its own generator, seeded with (seed, its index among the environments of all ranks),
    so that its actions depend neither on the number of environments nor on the number of ranks. ``episodes``
    (environments of all ranks,) and ``finished`` cover all ranks as well, ``reports`` this rank's environments.
    """

    def __init__(
        self,
        environment: TrainingEnvironment,
        network: FactoredRecurrentActorCritic,
        *,
        seed: int,
        device: torch.device,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        own = environment.num_envs
        self._ranks = ranks
        self._first = ranks.rank * own
        self._environment = environment
        self._network = network
        self._layout: HeadLayout = network.layout
        self._device = device
        self._generators = [_generator(seed, self._first + index) for index in range(own)]
        self._observations = environment.reset(seed, self._first)
        self._state = network.initial_state(own)
        self._starts = np.ones(own, dtype=np.bool_)
        self._returns = np.zeros(own)
        self._lengths = np.zeros(own, dtype=np.int64)
        self._ended: list[Finished] = []
        self.finished = EpisodeWindow()
        self.reports = EpisodeReports()
        self.episodes = np.zeros(own * ranks.size, dtype=np.int64)

    @property
    def episode_return(self) -> float | None:
        """Mean return of the last finished episodes; None before the first."""
        return self.finished.episode_return

    def progress(self) -> dict[str, list[Any]]:
        """Episodes of each environment, and the last ones, as a checkpoint keeps them."""
        return {"episodes": self.episodes.tolist(), **self.finished.state()}

    def restore(self, progress: Mapping[str, Sequence[Any]]) -> None:
        """Continue counting from ``progress``.

        With another number of environments, every environment continues from the fewest episodes of any.
        """
        episodes = np.array(progress["episodes"], dtype=np.int64)
        same = len(episodes) == len(self.episodes)
        self.episodes = episodes if same else np.full(len(self.episodes), episodes.min())
        self.finished.restore(progress)

    @torch.inference_mode()
    def collect(self, steps: int, should_stop: Callable[[], bool] = lambda: False) -> Rollout | None:
        """Take ``steps`` steps in every environment; None when any rank wants to stop.

        ``should_stop`` is asked before every step. Raises RankLostError.
        """
        # Drawn on the host for the whole rollout: samples are then the same on any device.
        drawn = [torch.empty(steps, self._layout.total).exponential_(generator=g) for g in self._generators]
        noise = self._tensor(torch.stack(drawn, 1).numpy())
        # The state before the first step: the update replays the rollout from there.
        state = self._state
        before = int(self.episodes.sum())
        records: list[dict[str, Any]] = []
        while len(records) < steps and not should_stop():
            records.append(self._step(noise[len(records)], len(records)))
        if len(records) < steps or should_stop():
            # The other ranks wait for these counts; they learn from them that this rank wants to stop.
            self._count(None)
            return None
        masks = np.stack([record["masks"] for record in records])
        actions = np.stack([record["actions"] for record in records])
        operations = actions[..., 0] if masks.shape[-2] > 1 else np.zeros_like(actions[..., 0])
        found = step_masks(masks, operations, self._layout, self._environment.consulted)
        counts = self._count(found)
        if counts.stop:
            return None
        total = steps * len(self.episodes)
        decision = self._tensor(found.decision)
        dependent = found.step is not found.decision
        values = torch.stack([record["value"] for record in records])
        observations = np.stack([record["observation"] for record in records])
        self._environment.scale.look_at(observations)
        rewards = np.stack([record["reward"] for record in records])
        self.finished.look_at(rewards)
        return Rollout(
            observations=self._tensor(observations),
            actions=self._tensor(actions),
            log_probs=torch.stack([record["log_probs"] for record in records]),
            values=values,
            rewards=self._tensor(rewards),
            next_values=self._next_values(values, records),
            ended=self._tensor(np.stack([record["ended"] for record in records])),
            starts=np.stack([record["start"] for record in records]),
            decision_masks=decision,
            step_masks=self._tensor(found.step) if dependent else decision,
            dependent_heads=dependent_heads(found, self._layout),
            choice=self._tensor(found.choice),
            log_valid_choices=self._tensor(np.log(self._layout.counts(found.decision), dtype=np.float32)),
            choice_share=tuple((counts.choice / total).tolist()),
            open_share=tuple((counts.open / total).tolist()),
            masks=masks,
            state=state,
            steps=total,
            episodes=int(self.episodes.sum()) - before,
        )

    def _count(self, found: StepMasks | None) -> RolloutCounts:
        """Count over all ranks; None tells them that this rank wants to stop."""
        none = np.zeros(len(self._layout.sizes), np.int64)
        own = slice(self._first, self._first + self._environment.num_envs)
        counts = RolloutCounts(
            found is None,
            none if found is None else found.choice.sum(axis=(0, 1)),
            none if found is None else found.open.sum(axis=(0, 1)),
            self.episodes[own],
            tuple(self._ended[-WINDOW:]),
        )
        self._ended.clear()
        total = counts_of_all_ranks(counts, self._ranks)
        self.episodes = total.episodes
        self.finished.extend(total.finished)
        return total

    def _step(self, noise: Tensor, step: int) -> dict[str, Any]:
        masks = self._environment.masks()
        # On the host, where the masks are: the distributions on the device need not check them again.
        self._layout.require_choices(masks)
        start = self._starts
        state = self._state
        if start.any():
            # An episode starts without memory of the one before. Chosen, not multiplied: NaN times 0 is NaN.
            keep = self._tensor(~start).unsqueeze(-1)
            state = (torch.where(keep, state[0], 0.0), torch.where(keep, state[1], 0.0))
        observation = self._observations
        logits, value, self._state = self._network.step(self._tensor(observation), state)
        actions, log_probs = sample_actions(logits, self._tensor(masks), self._layout, noise)
        host_actions = actions.cpu().numpy()
        self._observations, reward, terminated, truncated, final = self._environment.step(host_actions)
        ended = terminated | truncated
        self._count_episodes(step, reward, ended)
        self._starts = ended
        return {
            "masks": masks,
            "observation": observation,
            "actions": host_actions,
            "log_probs": log_probs,
            "value": value,
            "reward": reward,
            "start": start,
            "ended": ended,
            "terminated": terminated,
            "final_value": self._value(final) if truncated.any() else None,
        }

    def _value(self, observation: npt.NDArray[np.float32]) -> Tensor:
        """Value of observations with the present recurrent state, which does not advance."""
        return self._network.step(self._tensor(observation), self._state)[1]

    def _next_values(self, values: Tensor, records: Sequence[dict[str, Any]]) -> Tensor:
        """Value after each step: 0 after a termination, that of the final observation after a truncation.

        A truncated episode would have continued, so its last step has a future to be valued.
        """
        # The value of the next step is that of what followed, except where an episode ended.
        following = torch.cat([values[1:], self._value(self._observations).unsqueeze(0)])
        for index, record in enumerate(records):
            if record["final_value"] is not None:
                ended = self._tensor(record["ended"])
                following[index] = torch.where(ended, record["final_value"], following[index])
        terminated = self._tensor(np.stack([record["terminated"] for record in records]))
        return following.masked_fill_(terminated, 0.0)

    def _count_episodes(self, step: int, reward: npt.NDArray[np.float32], ended: BoolArray) -> None:
        self._returns += reward
        self._lengths += 1
        for index in np.flatnonzero(ended).tolist():
            place, total = self._first + index, float(self._returns[index])
            metrics = self.reports.take(self._environment.reports.get(index), total)
            self._ended.append(Finished(step, place, total, int(self._lengths[index]), metrics))
            self._returns[index] = self._lengths[index] = 0
            self.episodes[place] += 1

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return upload(array, self._device)


def _generator(seed: int, index: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)
