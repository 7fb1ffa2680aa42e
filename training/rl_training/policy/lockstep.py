"""Trunks of one width in lockstep on a CPU: every operation works on all of them, forward and backward.

nn.LSTM takes one trunk at a time, and fragments of different lengths cost it padding or, packed, a product for
each step and each gradient. Here the product with the weights of the inputs, and those that make the gradients
of weights, are one each over all steps; only the recurrent product is left for each step.

Shapes: P trunks, S packed steps of F fragments, D observed numbers, H units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rl_training.policy.fragments import Fragments
from rl_training.policy.tanh import tanh_

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state, each (B, hidden), or side by side (B, P · hidden) for several trunks."""


class Weights(NamedTuple):
    """Of P trunks together; gates in the order of nn.LSTM: input, forget, candidate, output."""

    encoder: Tensor
    """(P, H, D)"""
    encoder_bias: Tensor
    """(P, H)"""
    inputs: Tensor
    """(P, 4H, H)"""
    recurrent: Tensor
    """(P, 4H, H)"""
    input_bias: Tensor
    """(P, 4H)"""
    recurrent_bias: Tensor
    """(P, 4H)"""

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> Weights:
        """From those of the first trunk, in the order of the fields, then of the second, and so on."""
        return cls(*(_together(parameters[field :: len(cls._fields)]) for field in range(len(cls._fields))))

    def encoded(self, observations: Tensor) -> Tensor:
        """Observations (S, D) to the inputs of the LSTMs, (P, S, H)."""
        seen = observations.expand(len(self.encoder), *observations.shape)
        return tanh_(torch.baddbmm(self.encoder_bias.unsqueeze(1), seen, self.encoder.mT))

    def from_inputs(self, encoded: Tensor) -> Tensor:
        """The part of the gates that does not depend on the state before, (P, S, 4H)."""
        bias = self.input_bias + self.recurrent_bias
        return torch.baddbmm(bias.unsqueeze(1), encoded, self.inputs.mT)


def lay_together(parameters: Sequence[Sequence[Tensor]]) -> None:
    """Move the same parameters of several trunks next to each other, so that ``Weights`` copies nothing."""
    for equal in zip(*parameters, strict=True):
        for parameter, place in zip(equal, torch.stack([each.detach() for each in equal]), strict=True):
            parameter.data = place


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one with a leading dimension; a copy unless they lie next to each other."""
    first, size = parts[0].detach(), parts[0].numel()
    start, memory = first.storage_offset(), first.untyped_storage().data_ptr()
    neighbours = all(
        part.untyped_storage().data_ptr() == memory and part.storage_offset() == start + index * size
        for index, part in enumerate(parts)
    )
    if neighbours:
        return first.as_strided((len(parts), *first.shape), (size, *first.stride()))
    return torch.stack([part.detach() for part in parts])


@torch.no_grad()
def step(parameters: Sequence[Tensor], observations: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
    """One step: observations (B, D) to features (P, B, H) and the next state. Nothing carries a gradient."""
    weights = Weights.of(parameters)
    hidden, cell = (_apart(part, len(weights.encoder)) for part in state)
    gates = weights.from_inputs(weights.encoded(observations)).baddbmm_(hidden, weights.recurrent.mT)
    inputs, forget, candidate, output = gates.chunk(4, -1)
    cell = (forget.sigmoid_() * cell).addcmul_(inputs.sigmoid_(), tanh_(candidate))
    hidden = tanh_(cell.clone()).mul_(output.sigmoid_())
    return hidden, (_side_by_side(hidden), _side_by_side(cell))


def sequences(
    parameters: Sequence[Tensor], observations: Tensor, fragments: Fragments, state: LSTMState
) -> Tensor:
    """A rollout: observations (T, B, D) to features (P, T, B, H); ``state`` is that before it.

    The gradient reaches the parameters, and neither observations nor state.
    """
    trunks = len(parameters) // len(Weights._fields)
    hidden, cell = (_apart(fragments.initial(part), trunks) for part in state)
    features: Tensor = _Sequences.apply(  # type: ignore[no-untyped-call] # torch
        fragments.packed(observations), hidden, cell, fragments, *parameters
    )
    return torch.unflatten(features, 1, observations.shape[:2])


def _apart(state: Tensor, trunks: int) -> Tensor:
    """(B, P · H) to (P, B, H)."""
    return torch.unflatten(state, 1, (trunks, -1)).transpose(0, 1)


def _side_by_side(state: Tensor) -> Tensor:
    """(P, B, H) to (B, P · H)."""
    return state.transpose(0, 1).flatten(1)


class _Steps(NamedTuple):
    """What the backward pass needs of the forward pass; F initial states before S steps."""

    observations: Tensor
    """(S, D)"""
    encoded: Tensor
    """(P, S, H)"""
    gates: Tensor
    """(P, S, 4H)"""
    hidden: Tensor
    """(P, F + S, H)"""
    cell: Tensor
    """(P, F + S, H)"""
    squashed: Tensor
    """(P, S, H) tanh of the cell states."""


class _Sequences(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        observations: Tensor,
        hidden: Tensor,
        cell: Tensor,
        fragments: Fragments,
        *parameters: Tensor,
    ) -> Tensor:
        weights = Weights.of(parameters)
        encoded = weights.encoded(observations)
        steps = _forward(weights, observations, encoded, (hidden, cell), fragments.alive)
        ctx.fragments = fragments
        ctx.save_for_backward(weights.inputs, weights.recurrent, *steps)
        return steps.hidden[:, hidden.shape[1] :].index_select(1, fragments.back)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor) -> tuple[Tensor | None, ...]:
        inputs, recurrent, *saved = ctx.saved_tensors
        steps, fragments = _Steps(*saved), ctx.fragments
        before = steps.hidden.index_select(1, fragments.previous)
        d_gates = _backward(recurrent, steps, d_features.index_select(1, fragments.order), fragments)
        # tanh' = 1 - tanh²
        d_encoded = torch.bmm(d_gates, inputs)
        d_encoded.addcmul_(d_encoded * steps.encoded, steps.encoded, value=-1.0)
        seen = steps.observations.expand(len(d_encoded), *steps.observations.shape)
        # The gradients of the two biases are equal, but clipping scales each in place.
        d_bias = d_gates.sum(1)
        gradients = Weights(
            torch.bmm(d_encoded.mT, seen),
            d_encoded.sum(1),
            torch.bmm(d_gates.mT, steps.encoded),
            torch.bmm(d_gates.mT, before),
            d_bias,
            d_bias.clone(),
        )
        return None, None, None, None, *(field[trunk] for trunk in range(len(seen)) for field in gradients)


def _forward(
    weights: Weights, observations: Tensor, encoded: Tensor, initial: LSTMState, alive: Sequence[int]
) -> _Steps:
    """Run the LSTMs over packed steps."""
    trunks, fragments, width = initial[0].shape
    gates = weights.from_inputs(encoded)
    hidden, cell = (encoded.new_empty(trunks, fragments + encoded.shape[1], width) for _ in range(2))
    squashed = torch.empty_like(encoded)
    # Views of all steps at once: a slice for each would take as long as an operation.
    inputs_and_forget = gates[:, :, : 2 * width]
    parts = (gates, inputs_and_forget, *gates.chunk(4, -1), squashed)
    each_step = zip(*(torch.split_with_sizes(part, alive, 1) for part in parts), strict=True)
    before, *of_hidden = torch.split_with_sizes(hidden, (fragments, *alive), 1)
    cell_before, *of_cell = torch.split_with_sizes(cell, (fragments, *alive), 1)
    before.copy_(initial[0])
    cell_before.copy_(initial[1])
    recurrent = weights.recurrent.mT
    for views, now, cell_now in zip(each_step, of_hidden, of_cell, strict=True):
        gate, in_forget, inputs, forget, candidate, output, squash = views
        going_on = now.shape[1]
        if before.shape[1] != going_on:
            before, cell_before = before[:, :going_on], cell_before[:, :going_on]
        gate.baddbmm_(before, recurrent)
        in_forget.sigmoid_()
        # Of the few numbers of one step, one slow operation takes less time than the four of ``tanh_``.
        candidate.tanh_()
        output.sigmoid_()
        torch.mul(forget, cell_before, out=cell_now).addcmul_(inputs, candidate)
        torch.tanh(cell_now, out=squash)
        torch.mul(output, squash, out=now)
        before, cell_before = now, cell_now
    return _Steps(observations, encoded, gates, hidden, cell, squashed)


def _backward(recurrent: Tensor, steps: _Steps, d_hidden: Tensor, fragments: Fragments) -> Tensor:
    """Gradient of the gates before their activations, (P, S, 4H); that of the features is overwritten.

    A step gets its gradient from the features and from the step after it; what does not depend on the latter is
    computed for all steps together.
    """
    d_gates, d_cell_per_hidden = _slopes(steps, fragments)
    # A fragment that ends gets nothing from the step after it.
    d_cell = torch.zeros_like(d_hidden)
    forget = torch.unflatten(steps.gates, 2, (4, -1))[:, :, 1]
    cell_slopes, output_slopes = torch.split_with_sizes(torch.unflatten(d_gates, 2, (4, -1)), (3, 1), 2)
    parts = (
        d_hidden,
        d_cell,
        d_cell.unsqueeze(2),
        d_gates,
        cell_slopes,
        output_slopes.squeeze(2),
        d_cell_per_hidden,
        forget,
    )
    each_step = list(zip(*(torch.split_with_sizes(part, fragments.alive, 1) for part in parts), strict=True))
    for step, views in reversed(list(enumerate(each_step))):
        d_now, d_cell_now, d_cell_of_gates, d_gate, d_of_cell, d_output, per_hidden, forget_now = views
        d_output.mul_(d_now)
        d_cell_now.addcmul_(d_now, per_hidden)
        d_of_cell.mul_(d_cell_of_gates)
        if step:
            d_before, d_cell_before = each_step[step - 1][:2]
            going_on = d_now.shape[1]
            if d_before.shape[1] != going_on:
                d_before, d_cell_before = d_before[:, :going_on], d_cell_before[:, :going_on]
            d_before.baddbmm_(d_gate, recurrent)
            torch.mul(d_cell_now, forget_now, out=d_cell_before)
    return d_gates


def _slopes(steps: _Steps, fragments: Fragments) -> tuple[Tensor, Tensor]:
    """Slopes (P, S, 4H) of the cell state in the gates that make it, of the hidden state in the output gate.

    And that of the hidden state in the cell state, (P, S, H). The slope of y = sigmoid(x) is y - y², that of
    y = tanh(x) is 1 - y².
    """
    inputs, forget, candidate, output = steps.gates.chunk(4, -1)
    slopes = torch.empty_like(steps.gates)
    of_inputs, of_forget, of_candidate, of_output = slopes.chunk(4, -1)
    weighted = torch.mul(inputs, candidate, out=of_inputs)
    torch.addcmul(inputs, weighted, candidate, value=-1.0, out=of_candidate)
    weighted.addcmul_(weighted, inputs, value=-1.0)
    weighted = torch.mul(forget, steps.cell.index_select(1, fragments.previous), out=of_forget)
    weighted.addcmul_(weighted, forget, value=-1.0)
    weighted = torch.mul(output, steps.squashed, out=of_output)
    per_hidden = torch.addcmul(output, weighted, steps.squashed, value=-1.0)
    weighted.addcmul_(weighted, output, value=-1.0)
    return slopes, per_hidden
