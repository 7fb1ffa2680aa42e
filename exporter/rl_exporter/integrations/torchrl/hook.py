"""TorchRL: a forward hook on a PPO loss that measures the heads of its policy and records every update."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import ClipPPOLoss, PPOLoss
from torchrl.objectives.common import AUTO_LOSS_MASK_KEYS

from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter.gradients import Parameters
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.minibatches import DeviceMeans, EpochBuffer, Minibatch, divergences
from rl_exporter.integrations.torchrl.distributions import Decisions, decisions, stored_log_probs
from rl_exporter.integrations.torchrl.listener import Listener
from rl_exporter.integrations.torchrl.rollout import rollout_numbers
from rl_exporter.integrations.torchrl.specs import categorical_leaves, key_name
from rl_exporter.log import exporter_log
from rl_exporter.recorder import HeadRecorder

_LOG = exporter_log()


class HeadEntropyHook:
    """Measures the heads of ``loss`` (ClipPPOLoss, KLPENPPOLoss, PPOLoss, …) while it is evaluated.

        hook = HeadEntropyHook(loss, recorder, frames_per_batch=collector.frames_per_batch)
        ...                 # loss(minibatch), as before
        hook.record(batch)  # once per batch of the collector

    The hook reads the distribution that the loss builds, so it costs no additional forward pass. Heads are the
    keys of a composite distribution, as ``action_heads`` names them, or the declared heads in order where the
    policy has one distribution.

    ``frames_per_batch``: each pass over so many frames is an epoch. Left out, ``end_epoch`` says where one
    ends, and without it all minibatches of an update count as one. An update without a whole epoch is measured
    at the longest part of one that it visited.

    Evaluations without gradient and compiled ones are not measured. Raises TypeError or ValueError for what
    does not fit. Later errors are counted and logged once, and never reach the training.
    """

    def __init__(self, loss: PPOLoss, recorder: HeadRecorder, *, frames_per_batch: int | None = None) -> None:
        if not isinstance(loss, PPOLoss):
            raise TypeError(
                f"HeadEntropyHook measures ClipPPOLoss, KLPENPPOLoss and PPOLoss, not {type(loss).__name__}"
            )
        if frames_per_batch is not None and frames_per_batch < 1:
            raise ValueError(f"frames_per_batch is {frames_per_batch}; give the frames of a rollout, 1 or more")
        _require_heads(loss, recorder)
        self._loss, self._recorder, self._frames_per_batch = loss, recorder, frames_per_batch
        self._guard = ErrorGuard(recorder.count_record_error)
        self._meter = HeadMeter(recorder, lenient=True)
        self._epoch = EpochBuffer(self._meter, standardize=True)
        self._losses = DeviceMeans()
        self._heard = self._warned = False
        self._started: float | None = None
        self._recorded: float | None = None
        listener = Listener(self._begin, self._hear)
        self._handles = (
            loss.register_forward_pre_hook(listener.before),
            loss.register_forward_hook(listener.after, always_call=True),
        )

    def remove(self) -> None:
        """Leave the loss as it was found."""
        for handle in self._handles:
            handle.remove()

    def end_epoch(self) -> None:
        """The minibatches since the last call, or since the last ``record``, were one pass over the rollout."""
        with self._guard, torch.no_grad():
            self._epoch.end_epoch()

    def gradients(self, owners: Parameters | Mapping[str, Parameters]) -> None:
        """Norms of the gradients of the heads: call it after ``backward`` and before clipping.

        ``owners``: the layer that puts out all logits, or modules or parameters by head.
        """
        self._epoch.gradients(owners)

    def record(self, batch: TensorDictBase | None = None, **numbers: Any) -> None:
        """Record the update that has ended. ``batch``: what the collector yielded, for frames and episodes.

        Returns and lengths of episodes are those under ``("next", "episode_reward")`` (RewardSum) and
        ``("next", "step_count")`` (StepCounter) where an episode ended. ``numbers`` are those of
        ``HeadRecorder.record``, such as ``learning_rate=``; they go before what the hook knows.
        """
        durations = self._durations(time.perf_counter())
        with self._guard, torch.no_grad():
            self._end_update()
        # The copies start here, and the meter's one transfer waits for them, too.
        readers = [self._taken(partial(rollout_numbers, batch)), self._taken(self._losses.take)]
        with self._guard, torch.no_grad():
            measured = self._meter.result()
            # The share that the loss clips is that of all heads together.
            measured.pop("clipped_share", None)
            rollout, losses = (read() for read in readers)
            self._recorder.record(**{**durations, **rollout, **losses, **measured, **numbers})

    def _taken(self, take: Callable[[], Callable[[], dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
        """An error costs these numbers, not the others."""
        with self._guard, torch.no_grad():
            return take()
        return dict

    def _durations(self, now: float) -> dict[str, float]:
        started, recorded = self._started, self._recorded
        self._started, self._recorded = None, now
        found = {} if started is None else {"update_duration": now - started}
        if started is not None and recorded is not None:
            found["rollout_duration"] = started - recorded
        return found

    def _end_update(self) -> None:
        heard, self._heard = self._heard, False
        if not heard and not self._warned:
            self._warned = True
            _LOG.warning(
                "no evaluation of the loss was measured in this update; a compiled loss and one without "
                "gradient are not, nor is loss.forward(...) in place of loss(...)"
            )
        self._epoch.end_update()

    def _hear(self, sampled: TensorDictBase, distribution: Any, output: Any) -> None:
        """One evaluation of the loss: its tensors, the distribution that it got, and what it returned."""
        self._heard = True
        frames = sampled.numel()
        with self._guard, torch.no_grad():
            if isinstance(output, TensorDictBase):
                self._add_losses(output, frames)
        with self._guard, torch.no_grad():
            found = decisions(distribution, sampled, self._loss.tensor_keys.action, self._recorder.heads)
            self._add(found, sampled, frames)

    def _begin(self) -> None:
        """The loss is evaluated next."""
        if self._started is None:
            self._started = time.perf_counter()

    def _add(self, found: Decisions, sampled: TensorDictBase, frames: int) -> None:
        keys, new = self._loss.tensor_keys, found.log_probs
        valid = self._valid(sampled, found.steps)
        old = stored_log_probs(sampled, keys.sample_log_prob, keys.action, self._recorder.heads)
        if old is not None and new is not None and found.complete:
            joint = new.sum(1) - old.reshape(len(new), -1).sum(1)
            self._losses.add_steps("kl_divergence", divergences(joint), valid)
        # One log-probability for all actions together says nothing of a head.
        by_head = isinstance(keys.sample_log_prob, list) or (found.complete and len(self._recorder.heads) == 1)
        minibatch = Minibatch(
            logits=found.logits,
            masks=found.masks,
            valid=valid,
            actions=found.actions,
            advantages=_by_step(sampled.get(keys.advantage, None), found.steps),
            log_probs=new if by_head else None,
            old_log_probs=old if by_head else None,
        )
        due = self._frames_per_batch
        if due is not None and self._epoch.frames + frames > due:
            self._epoch.cut_short()  # the loop left the rest of the rollout out
        self._epoch.add(minibatch, frames)
        if self._epoch.frames == due:
            self._epoch.end_epoch()

    def _valid(self, sampled: TensorDictBase, steps: int) -> Tensor | None:
        """(S,) False for padding, by the entries from which the loss takes its mask."""
        key = self._loss.loss_mask_key
        keys = AUTO_LOSS_MASK_KEYS if key == "auto" else () if key is None else (key,)
        found: Tensor | None = None
        for one in keys:
            mask = _by_step(sampled.get(one, None), steps)
            if mask is not None:
                found = mask if found is None else found & mask
        return found

    def _add_losses(self, output: TensorDictBase, frames: int) -> None:
        loss = self._loss
        if isinstance(loss, ClipPPOLoss):
            self._losses.add("clipped_share", output["clip_fraction"].mean(), frames)
        if loss.reduction != "sum":
            self._losses.add("policy_loss", output["loss_objective"].mean(), frames)
            if loss.loss_critic_type == "l2" and "loss_critic" in output.keys():  # noqa: SIM118 - a TensorDict
                half = output["loss_critic"].mean() / (2 * loss.critic_coeff)
                self._losses.add("value_loss", half, frames)
        # With a coefficient for each head, there is no single one.
        if loss.entropy_bonus and not getattr(loss, "_entropy_coeff_map", None):
            self._losses.add("entropy_coefficient", loss.entropy_coeff, frames)


def _require_heads(loss: PPOLoss, recorder: HeadRecorder) -> None:
    """Raise ValueError where the recorder's heads cannot be those of the actor, as far as it says."""
    actor = loss.actor_network
    actions = [key_name(key) for key in getattr(actor, "dist_sample_keys", ())]
    spec = getattr(actor, "spec", None)
    known = {} if spec is None else categorical_leaves(spec)
    for head in recorder.heads:
        if len(actions) > 1 and head.name not in actions:
            raise ValueError(
                f"head {head.name!r} is no action of the policy; actions: {', '.join(actions)}; "
                "declare the heads with action_heads(env)"
            )
        if known.get(head.name, head.choices) != head.choices:
            raise ValueError(
                f"head {head.name!r} was declared with {head.choices} choices, the policy has "
                f"{known[head.name]}; declare the heads with action_heads(env)"
            )


def _by_step(values: Tensor | None, steps: int) -> Tensor | None:
    """(S,) from one value for each step, or for each frame of S / frames agents; None: they do not fit."""
    if values is None or not values.numel() or steps % values.numel():
        return None
    return values.flatten().repeat_interleave(steps // values.numel())
