"""skrl: measures the heads of an agent's policy while it learns, and records every update."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from skrl.agents.torch import Agent
from skrl.agents.torch.a2c import A2C
from skrl.agents.torch.ppo import PPO, PPO_RNN
from skrl.models.torch import CategoricalMixin, MultiCategoricalMixin
from torch import Tensor

from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter.gradients import Parameters
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.minibatches import DeviceMeans, EpochBuffer, Minibatch, divergences
from rl_exporter.integrations.skrl.epochs import SampledMinibatches
from rl_exporter.integrations.skrl.reports import EpisodeHistory, add_rollout, checked, losses
from rl_exporter.integrations.skrl.spaces import action_heads
from rl_exporter.integrations.taps import Tap
from rl_exporter.recorder import HeadRecorder

_TINY = torch.finfo(torch.float32).tiny


def measure(
    agent: Agent,
    recorder: HeadRecorder,
    *,
    gradients: Parameters | Mapping[str, Parameters] | None = None,
) -> Measurement:
    """Measure and record every update of ``agent`` (PPO, PPO_RNN, A2C) from now on.

        with rl_exporter.serve(action_heads(env)) as recorder, measure(agent, recorder):
            trainer.train()

    The policy is a CategoricalMixin or a MultiCategoricalMixin; the recorder's heads are its actions in order.
    What it measures is what ``policy.act`` computes for the loss, so it costs no additional forward pass.
    ``gradients``: the layer that puts out all logits, or modules or parameters by head, for their gradient
    norms before clipping.

    Raises TypeError or ValueError for what does not fit. Later errors are counted and logged once, and never
    reach the training. ``remove`` of the result, or the end of its block, leaves the agent as it was found.
    """
    return Measurement(agent, recorder, gradients)


class Measurement:
    """An agent that is measured, see ``measure``."""

    def __init__(
        self, agent: Agent, recorder: HeadRecorder, gradients: Parameters | Mapping[str, Parameters] | None
    ) -> None:
        _require(agent, recorder)
        self._agent, self._recorder, self._owners = agent, recorder, gradients
        self._guard = ErrorGuard(recorder.count_record_error)
        clip = getattr(agent.cfg, "ratio_clip", None)
        self._clips = clip is not None
        self._meter = HeadMeter(recorder, clip=clip or 0.2, lenient=True)
        self._minibatches = SampledMinibatches(EpochBuffer(self._meter))
        self._numbers = DeviceMeans()
        self._optimizer_steps = 0
        self._ended: float | None = None
        self._episodes = EpisodeHistory(agent)
        self._taps = (
            Tap(agent, "update", self._around_update),
            Tap(agent, "write_tracking_data", self._around_write),
        )

    def remove(self) -> None:
        """Leave the agent as it was found."""
        for tap in self._taps:
            tap.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _around_update(self, original: Callable[..., None], *arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        known: dict[str, Any] = {}
        undo: list[Callable[[], None]] = []
        self._optimizer_steps = 0
        with self._guard:
            known["learning_rate"] = self._agent.optimizer.param_groups[0]["lr"]
            self._listen(undo)
        try:
            original(*arguments, **named)
        finally:
            for remove in undo:
                remove()
        ended = time.perf_counter()
        known["update_duration"] = ended - started
        if self._ended is not None:
            known["rollout_duration"] = started - self._ended
        self._record(known)
        self._ended = time.perf_counter()

    def _around_write(self, original: Callable[..., None], *arguments: Any, **named: Any) -> None:
        with self._guard:
            self._episodes.keep()
        original(*arguments, **named)

    def _listen(self, undo: list[Callable[[], None]]) -> None:
        """Tap what an update calls; ``undo`` gets what takes each tap off."""
        agent, memory = self._agent, self._agent.memory
        for owner, name, around in (
            (agent.policy, "act", self._around_act),
            (memory, "sample", self._around_sample),
            (memory, "sample_all", self._around_sample),
        ):
            undo.append(Tap(owner, name, around).remove)
        if agent.cfg.grad_norm_clip > 0:
            # Called once an optimiser step, whether or not it scales, and right before the clipping.
            undo.append(Tap(agent.scaler, "unscale_", self._around_unscale).remove)
        else:
            hook = agent.optimizer.register_step_pre_hook(lambda *_: self._optimizer_step())
            undo.append(hook.remove)

    def _around_unscale(self, original: Callable[..., None], *arguments: Any) -> None:
        original(*arguments)
        self._optimizer_step()

    def _optimizer_step(self) -> None:
        self._optimizer_steps += 1
        if self._owners is not None:
            self._minibatches.gradients(self._owners)

    def _around_sample(self, original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        sampled = original(*arguments, **named)
        with self._guard:
            self._minibatches.sampled(named["names"] if "names" in named else arguments[0], sampled)
        return sampled

    def _around_act(self, original: Callable[..., Any], inputs: Any, *rest: Any, **named: Any) -> Any:
        actions, outputs = original(inputs, *rest, **named)
        with self._guard, torch.no_grad():
            # Evaluations of the value, and of states to start from, sample anew.
            if inputs.get("taken_actions") is not None:
                self._hear(inputs["taken_actions"], outputs)
        return actions, outputs

    def _hear(self, actions: Tensor, outputs: Mapping[str, Tensor]) -> None:
        sampled = self._minibatches.of(actions)
        new, old = outputs["log_prob"].detach(), sampled.get("log_prob")
        joint = old is not None and _is_joint(self._agent.policy)
        if old is not None and joint:
            self._numbers.add_steps("kl_divergence", divergences((new - old).reshape(-1)))
        minibatch = Minibatch(
            logits=_logits(self._agent.policy, outputs["net_output"]),
            actions=actions,
            advantages=sampled.get("advantages"),
            log_probs=new if joint else None,
            old_log_probs=old if joint else None,
        )
        self._minibatches.add(minibatch, len(actions))

    def _record(self, known: dict[str, Any]) -> None:
        with self._guard, torch.no_grad():
            self._minibatches.end_update()
        with self._guard, torch.no_grad():
            known["environment_steps"] = self._agent.cfg.rollouts * self._agent.memory.num_envs
            add_rollout(self._numbers, self._agent)
            known |= self._episodes.means() | losses(self._agent, self._optimizer_steps)
        read: Callable[[], dict[str, float]] = dict
        with self._guard, torch.no_grad():
            # The copy starts here, and the meter's one transfer waits for it, too.
            read = self._numbers.take()
        with self._guard, torch.no_grad():
            measured = self._meter.result()
            if not self._clips:
                measured.pop("clipped_share", None)
            if len(self._recorder.heads) > 1:
                # The memory has log-probabilities of all heads together.
                measured.pop("head_importance_ratio_max", None)
            self._recorder.record(**{**known, **checked(read()), **measured})


def _logits(policy: Any, output: Tensor) -> Tensor:
    """(S, Σn) of what the network put out."""
    multiple = isinstance(policy, MultiCategoricalMixin)
    unnormalized = (
        policy._mc_unnormalized_log_prob  # noqa: SLF001 - nothing public tells logits and probabilities apart
        if multiple
        else policy._c_unnormalized_log_prob  # noqa: SLF001 - the same
    )
    # A probability of 0 is no mask.
    return output.detach() if unnormalized else output.detach().clamp_min(_TINY).log()


def _is_joint(policy: Any) -> bool:
    """Whether a log-probability of the policy is that of all heads together, not their mean or product."""
    if not isinstance(policy, MultiCategoricalMixin):
        return True
    return policy._mc_reduction is torch.sum  # noqa: SLF001 - nothing public says so


def _require(agent: Agent, recorder: HeadRecorder) -> None:
    if not isinstance(agent, PPO | PPO_RNN | A2C):
        raise TypeError(f"measure takes PPO, PPO_RNN and A2C agents, not {type(agent).__name__}")
    if not isinstance(agent.policy, CategoricalMixin | MultiCategoricalMixin):
        raise TypeError(
            f"the policy {type(agent.policy).__name__} is neither a CategoricalMixin nor a "
            "MultiCategoricalMixin; it has no heads"
        )
    if agent.memory is None:
        raise ValueError("the agent has no memory, so it does not learn; give it one")
    sizes = list(action_heads(agent.action_space).values())
    declared = [head.choices for head in recorder.heads]
    if declared != sizes:
        raise ValueError(
            f"heads were declared with {declared} choices, the action space has {sizes}; declare them with "
            "action_heads(env)"
        )
