"""The meter of one RLModule inside a learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor, nn

from rl_exporter.heads import Heads
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.rllib.minibatches import EpochCursor, JointRatios, ratio_numbers
from rl_exporter.integrations.rllib.spaces import flat_actions


class Steps(NamedTuple):
    """What the loss has of a minibatch, detached; leading dimensions (B,) or, for recurrent modules, (B, T)."""

    logits: Tensor
    """(…, Σn)"""
    acting: Tensor
    """(…, Σn) logits of the policy that acted."""
    actions: Tensor
    """(…, H)"""
    advantages: Tensor
    """(…)"""
    acting_log_prob: Tensor
    """(…) of the sampled actions, all heads together."""
    valid: Tensor
    """(…) False for padding and for the row that RLlib adds to each episode."""

    @classmethod
    def of(cls, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> Steps:
        """From the outputs of a module and its minibatch."""
        logits = outputs[Columns.ACTION_DIST_INPUTS].detach()
        log_prob = batch[Columns.ACTION_LOGP]
        given = batch.get(Columns.LOSS_MASK)
        return cls(
            logits,
            batch[Columns.ACTION_DIST_INPUTS],
            flat_actions(batch[Columns.ACTIONS], logits),
            batch[Postprocessing.ADVANTAGES],
            log_prob,
            torch.ones_like(log_prob, dtype=torch.bool) if given is None else given.bool(),
        )


class ModuleMeter:
    """Measures the heads of one module, update by update. Nothing that it does raises."""

    def __init__(self, heads: Heads, clip: float, count_error: Callable[[], None]) -> None:
        self.heads = heads
        self._layout = HeadLayout(heads.names, [head.choices for head in heads])
        self._meter = HeadMeter(heads, clip=clip, partial_epochs=True, lenient=True, count_error=count_error)
        self._cursor, self._joint = EpochCursor(), JointRatios(clip)

    def begin(self, rows: int | None) -> None:
        """A batch of so many rows, or sequences, is ready; None: not known."""
        self._cursor.begin(rows)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        """One minibatch, as its loss saw it."""
        steps = Steps.of(outputs, batch)
        both = torch.stack([steps.logits, steps.acting]), steps.actions.expand(2, *steps.actions.shape)
        log_probs, acting = head_log_probs(*both, self._layout_on(steps.logits.device))
        log_ratio = log_probs.sum(-1) - steps.acting_log_prob
        for rows, ends in self._cursor.parts(len(steps.logits)):
            self._meter.add(
                steps.logits[rows],
                valid=steps.valid[rows],
                actions=steps.actions[rows],
                advantages=steps.advantages[rows],
                log_probs=log_probs[rows],
                old_log_probs=acting[rows],
            )
            self._joint.add(log_ratio[rows], steps.valid[rows])
            if ends:
                self._meter.end_epoch()
                self._joint.end_epoch()

    def _layout_on(self, device: torch.device) -> HeadLayout:
        if self._layout.segment.device != device:
            self._layout = HeadLayout(self._layout.names, self._layout.sizes, device)
        return self._layout

    def gradients(self, layer: nn.Linear) -> None:
        """What the backward pass left of that minibatch, which belongs to the epoch in which it ends."""
        self._meter.gradients(layer)

    def finish(self) -> int:
        """Whole epochs of this update; where there is none, the part of one that was seen counts as one."""
        if not self._meter.whole_epochs:
            self._meter.end_epoch()
            self._joint.end_epoch()
        return min(self._meter.whole_epochs, self._joint.whole_epochs)

    def result(self, epochs: int, group: dist.ProcessGroup | None) -> dict[str, Any]:
        """The numbers of the first ``epochs`` epochs, as arguments of ``HeadRecorder.record``."""
        if not epochs:
            self._joint.take(0, None)
            self._meter.result()
            return {}
        joint = self._joint.take(epochs, group)
        self._meter.keep_epochs(epochs)
        found = self._meter.result(group)
        # The meter calls a step clipped where any head is; this loss clips the ratio of all heads together.
        found.pop("clipped_share", None)
        numbers = ratio_numbers(joint)._asdict() if found else {}
        return {**found, **{name: value for name, value in numbers.items() if value is not None}}


def head_log_probs(logits: Tensor, actions: Tensor, layout: HeadLayout) -> Tensor:
    """Log-probabilities (…, H) of sampled actions (…, H) under logits (…, Σn)."""
    columns = logits.float().reshape(-1, layout.total).T
    chosen = actions.reshape(-1, len(layout.sizes)).T + layout.first.unsqueeze(1)
    peak = layout.maxima(columns)
    total = layout.sums((columns - layout.spread(peak)).exp())
    return (columns.gather(0, chosen) - peak - total.log()).T.reshape(actions.shape)
