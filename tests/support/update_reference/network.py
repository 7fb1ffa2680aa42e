"""The policy's network: encoder, LSTM, a module per head, a value head; forward, and backward by hand."""

from typing import NamedTuple

import numpy as np

Parameters = dict[str, np.ndarray]
"""Arrays by the names that they have in the network."""

UNITS = ("value.mean", "value.scale")
"""Of the value head: they follow the returns, and no gradient moves them."""


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


class TrunkTrace(NamedTuple):
    """What an encoder and its LSTM computed for T steps of B environments."""

    name: str
    observations: np.ndarray  # (T, B, D), cut off
    starts: np.ndarray  # (T, B), an episode begins at this step
    encoded: np.ndarray  # (T, B, hidden)
    cells: list[Cell]  # T
    features: np.ndarray  # (T, B, hidden)


class Trace(NamedTuple):
    """What a forward pass computed for T steps of B environments; the last two fields are its answer."""

    actor: TrunkTrace
    critic: TrunkTrace  # the same, where the critic reads the trunk of the actor
    head_hidden: list[np.ndarray]  # H times (T, B, hidden of the head)
    value_hidden: np.ndarray  # (T, B, hidden)
    logits: list[np.ndarray]  # H times (T, B, n)
    values: np.ndarray  # (T, B)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encode(parameters, trunk, observations):
    seen = np.clip(observations, -10, 10)
    return np.tanh(seen @ parameters[f"{trunk}.encoder.weight"].T + parameters[f"{trunk}.encoder.bias"])


def lstm_cell(parameters, trunk, encoded, hidden, cell):
    """One step; the rows of the weights are input gate, forget gate, proposal, output gate."""
    lstm = f"{trunk}.lstm"
    rows = encoded @ parameters[f"{lstm}.weight_ih_l0"].T + parameters[f"{lstm}.bias_ih_l0"]
    rows = rows + hidden @ parameters[f"{lstm}.weight_hh_l0"].T + parameters[f"{lstm}.bias_hh_l0"]
    inward, forget, proposal, outward = np.split(rows, 4, axis=-1)
    inward, forget, outward = sigmoid(inward), sigmoid(forget), sigmoid(outward)
    proposal = np.tanh(proposal)
    after = forget * cell + inward * proposal
    return Cell(hidden, cell, inward, forget, proposal, outward, after, outward * np.tanh(after))


def value_head(parameters, features):
    """Hidden units and value of each step, in units of the reward."""
    hidden = np.tanh(features @ parameters["value.hidden.weight"].T + parameters["value.hidden.bias"])
    normalized = (hidden @ parameters["value.output.weight"].T + parameters["value.output.bias"])[..., 0]
    return hidden, parameters["value.scale"] * normalized + parameters["value.mean"]


def critic_of(parameters):
    """The trunk that the value head reads."""
    return "critic" if "critic.encoder.weight" in parameters else "actor"


def of_trunk(parameters, trunk, state):
    """The part of the state that belongs to a trunk: actor first, critic second."""
    if critic_of(parameters) == "actor":
        return state
    return tuple(np.split(part, 2, axis=-1)[trunk == "critic"] for part in state)


def run_trunk(parameters, trunk, observations, starts, state):
    """Steps in their order; the state is zero where an episode starts, and ``state`` before the first step."""
    encoded = encode(parameters, trunk, observations)
    hidden, cell = of_trunk(parameters, trunk, state)
    cells = []
    for step, begins in enumerate(starts):
        keep = ~begins[:, None]
        cells.append(lstm_cell(parameters, trunk, encoded[step], hidden * keep, cell * keep))
        hidden, cell = cells[-1].hidden, cells[-1].cell
    features = np.stack([c.hidden for c in cells])
    return TrunkTrace(trunk, np.clip(observations, -10, 10), starts, encoded, cells, features)


def forward(parameters, sizes, observations, starts, state):
    actor = run_trunk(parameters, "actor", observations, starts, state)
    critic = run_trunk(parameters, critic_of(parameters), observations, starts, state)
    head_hidden = [
        np.tanh(actor.features @ parameters["heads.weight_in"][h] + parameters["heads.bias_in"][h])
        for h in range(len(sizes))
    ]
    logits = [
        (units @ parameters["heads.weight_out"][h] + parameters["heads.bias_out"][h])[..., :size]
        for h, (units, size) in enumerate(zip(head_hidden, sizes, strict=True))
    ]
    value_hidden, values = value_head(parameters, critic.features)
    return Trace(actor, critic, head_hidden, value_hidden, logits, values)


def backward(parameters, trace, d_logits, d_values):
    """Gradients of all parameters, from those of a loss by the logits of each head and by the values."""
    gradients = {name: np.zeros_like(array) for name, array in parameters.items() if name not in UNITS}
    d_critic = _value_backward(parameters, trace, d_values * parameters["value.scale"], gradients)
    d_actor = np.zeros_like(trace.actor.features)
    for head, d_head in enumerate(d_logits):
        d_actor = d_actor + _head_backward(parameters, trace, head, d_head, gradients)
    if trace.critic.name == "actor":
        _trunk_backward(parameters, trace.actor, d_actor + d_critic, gradients)
    else:
        _trunk_backward(parameters, trace.actor, d_actor, gradients)
        _trunk_backward(parameters, trace.critic, d_critic, gradients)
    return gradients


def _trunk_backward(parameters, trunk, d_features, gradients):
    d_encoded = _lstm_backward(parameters, trunk, d_features, gradients)
    d_rows = d_encoded * (1 - trunk.encoded**2)
    gradients[f"{trunk.name}.encoder.weight"] += np.einsum("tbh,tbd->hd", d_rows, trunk.observations)
    gradients[f"{trunk.name}.encoder.bias"] += d_rows.sum((0, 1))


def _value_backward(parameters, trace, d_values, gradients):
    weight = parameters["value.output.weight"][0]
    gradients["value.output.weight"] += np.einsum("tb,tbh->h", d_values, trace.value_hidden)[None]
    gradients["value.output.bias"] += d_values.sum()
    d_rows = d_values[..., None] * weight * (1 - trace.value_hidden**2)
    gradients["value.hidden.weight"] += np.einsum("tbh,tbf->hf", d_rows, trace.critic.features)
    gradients["value.hidden.bias"] += d_rows.sum((0, 1))
    return d_rows @ parameters["value.hidden.weight"]


def _head_backward(parameters, trace, head, d_logits, gradients):
    size, units = d_logits.shape[-1], trace.head_hidden[head]
    gradients["heads.weight_out"][head, :, :size] += np.einsum("tbk,tbn->kn", units, d_logits)
    gradients["heads.bias_out"][head, :size] += d_logits.sum((0, 1))
    d_units = d_logits @ parameters["heads.weight_out"][head, :, :size].T
    d_rows = d_units * (1 - units**2)
    gradients["heads.weight_in"][head] += np.einsum("tbf,tbk->fk", trace.actor.features, d_rows)
    gradients["heads.bias_in"][head] += d_rows.sum((0, 1))
    return d_rows @ parameters["heads.weight_in"][head].T


def _lstm_backward(parameters, trunk, d_features, gradients):
    """Back through time; nothing flows from an episode into the one before it."""
    d_encoded = np.zeros_like(trunk.encoded)
    d_hidden = np.zeros_like(d_features[0])
    d_cell = np.zeros_like(d_features[0])
    for step in range(len(d_features) - 1, -1, -1):
        cell = trunk.cells[step]
        d_rows, d_cell = _cell_backward(cell, d_features[step] + d_hidden, d_cell)
        gradients[f"{trunk.name}.lstm.weight_ih_l0"] += d_rows.T @ trunk.encoded[step]
        gradients[f"{trunk.name}.lstm.weight_hh_l0"] += d_rows.T @ cell.hidden_before
        gradients[f"{trunk.name}.lstm.bias_ih_l0"] += d_rows.sum(0)
        gradients[f"{trunk.name}.lstm.bias_hh_l0"] += d_rows.sum(0)
        d_encoded[step] = d_rows @ parameters[f"{trunk.name}.lstm.weight_ih_l0"]
        keep = ~trunk.starts[step][:, None]
        d_hidden = d_rows @ parameters[f"{trunk.name}.lstm.weight_hh_l0"] * keep
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
