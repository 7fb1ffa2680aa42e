"""The policy's network: encoder, LSTM, a module per head, a value head; forward, and backward by hand."""

from typing import NamedTuple

import numpy as np

Parameters = dict[str, np.ndarray]
"""Arrays by the names that they have in the network."""


class Cell(NamedTuple):
    """One step of the LSTM (Hochreiter & Schmidhuber 1997, with forget gates), kept for the way back."""

    hidden_before: np.ndarray
    cell_before: np.ndarray
    inward: np.ndarray
    forget: np.ndarray
    proposal: np.ndarray
    outward: np.ndarray
    cell: np.ndarray
    hidden: np.ndarray


class Trace(NamedTuple):
    """What a forward pass computed for T steps of B environments; the last two fields are its answer."""

    observations: np.ndarray  # (T, B, D)
    starts: np.ndarray  # (T, B), an episode begins at this step
    encoded: np.ndarray  # (T, B, hidden)
    cells: list[Cell]  # T
    features: np.ndarray  # (T, B, hidden)
    head_hidden: list[np.ndarray]  # H times (T, B, hidden of the head)
    value_hidden: np.ndarray  # (T, B, hidden)
    logits: list[np.ndarray]  # H times (T, B, n)
    values: np.ndarray  # (T, B)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encode(parameters, observations):
    return np.tanh(observations @ parameters["encoder.weight"].T + parameters["encoder.bias"])


def lstm_cell(parameters, encoded, hidden, cell):
    """One step; the rows of the weights are input gate, forget gate, proposal, output gate."""
    rows = encoded @ parameters["lstm.weight_ih_l0"].T + parameters["lstm.bias_ih_l0"]
    rows = rows + hidden @ parameters["lstm.weight_hh_l0"].T + parameters["lstm.bias_hh_l0"]
    inward, forget, proposal, outward = np.split(rows, 4, axis=-1)
    inward, forget, outward = sigmoid(inward), sigmoid(forget), sigmoid(outward)
    proposal = np.tanh(proposal)
    after = forget * cell + inward * proposal
    return Cell(hidden, cell, inward, forget, proposal, outward, after, outward * np.tanh(after))


def value_head(parameters, features):
    """Hidden units and value of each step."""
    hidden = np.tanh(features @ parameters["value.0.weight"].T + parameters["value.0.bias"])
    return hidden, (hidden @ parameters["value.2.weight"].T + parameters["value.2.bias"])[..., 0]


def forward(parameters, sizes, observations, starts, state):
    """Steps in their order; the state is zero where an episode starts, and ``state`` before the first step."""
    encoded = encode(parameters, observations)
    hidden, cell = state
    cells = []
    for step, begins in enumerate(starts):
        keep = ~begins[:, None]
        cells.append(lstm_cell(parameters, encoded[step], hidden * keep, cell * keep))
        hidden, cell = cells[-1].hidden, cells[-1].cell
    features = np.stack([c.hidden for c in cells])
    head_hidden = [
        np.tanh(features @ parameters["heads.weight_in"][h] + parameters["heads.bias_in"][h])
        for h in range(len(sizes))
    ]
    logits = [
        (units @ parameters["heads.weight_out"][h] + parameters["heads.bias_out"][h])[..., :size]
        for h, (units, size) in enumerate(zip(head_hidden, sizes, strict=True))
    ]
    value_hidden, values = value_head(parameters, features)
    return Trace(observations, starts, encoded, cells, features, head_hidden, value_hidden, logits, values)


def backward(parameters, trace, d_logits, d_values):
    """Gradients of all parameters, from those of a loss by the logits of each head and by the values."""
    gradients = {name: np.zeros_like(array) for name, array in parameters.items()}
    d_features = _value_backward(parameters, trace, d_values, gradients)
    for head, d_head in enumerate(d_logits):
        d_features = d_features + _head_backward(parameters, trace, head, d_head, gradients)
    d_encoded = _lstm_backward(parameters, trace, d_features, gradients)
    d_rows = d_encoded * (1 - trace.encoded**2)
    gradients["encoder.weight"] += np.einsum("tbh,tbd->hd", d_rows, trace.observations)
    gradients["encoder.bias"] += d_rows.sum((0, 1))
    return gradients


def _value_backward(parameters, trace, d_values, gradients):
    weight = parameters["value.2.weight"][0]
    gradients["value.2.weight"] += np.einsum("tb,tbh->h", d_values, trace.value_hidden)[None]
    gradients["value.2.bias"] += d_values.sum()
    d_rows = d_values[..., None] * weight * (1 - trace.value_hidden**2)
    gradients["value.0.weight"] += np.einsum("tbh,tbf->hf", d_rows, trace.features)
    gradients["value.0.bias"] += d_rows.sum((0, 1))
    return d_rows @ parameters["value.0.weight"]


def _head_backward(parameters, trace, head, d_logits, gradients):
    size, units = d_logits.shape[-1], trace.head_hidden[head]
    gradients["heads.weight_out"][head, :, :size] += np.einsum("tbk,tbn->kn", units, d_logits)
    gradients["heads.bias_out"][head, :size] += d_logits.sum((0, 1))
    d_units = d_logits @ parameters["heads.weight_out"][head, :, :size].T
    d_rows = d_units * (1 - units**2)
    gradients["heads.weight_in"][head] += np.einsum("tbf,tbk->fk", trace.features, d_rows)
    gradients["heads.bias_in"][head] += d_rows.sum((0, 1))
    return d_rows @ parameters["heads.weight_in"][head].T


def _lstm_backward(parameters, trace, d_features, gradients):
    """Back through time; nothing flows from an episode into the one before it."""
    d_encoded = np.zeros_like(trace.encoded)
    d_hidden = np.zeros_like(d_features[0])
    d_cell = np.zeros_like(d_features[0])
    for step in range(len(d_features) - 1, -1, -1):
        cell = trace.cells[step]
        d_rows, d_cell = _cell_backward(cell, d_features[step] + d_hidden, d_cell)
        gradients["lstm.weight_ih_l0"] += d_rows.T @ trace.encoded[step]
        gradients["lstm.weight_hh_l0"] += d_rows.T @ cell.hidden_before
        gradients["lstm.bias_ih_l0"] += d_rows.sum(0)
        gradients["lstm.bias_hh_l0"] += d_rows.sum(0)
        d_encoded[step] = d_rows @ parameters["lstm.weight_ih_l0"]
        keep = ~trace.starts[step][:, None]
        d_hidden = d_rows @ parameters["lstm.weight_hh_l0"] * keep
        d_cell = d_cell * keep
    return d_encoded


def _cell_backward(cell, d_hidden, d_cell):
    squashed = np.tanh(cell.cell)
    d_cell = d_cell + d_hidden * cell.outward * (1 - squashed**2)
    d_rows = [
        d_cell * cell.proposal * cell.inward * (1 - cell.inward),
        d_cell * cell.cell_before * cell.forget * (1 - cell.forget),
        d_cell * cell.inward * (1 - cell.proposal**2),
        d_hidden * squashed * cell.outward * (1 - cell.outward),
    ]
    return np.concatenate(d_rows, axis=-1), d_cell * cell.forget
