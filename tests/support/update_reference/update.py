"""The whole update: what is to be learned, the optimiser steps, and the means over whole epochs."""

import math
from typing import NamedTuple

import numpy as np

from tests.support.update_reference.decisions import decision_numbers
from tests.support.update_reference.heads import HeadMasks, head_masks, log_softmax
from tests.support.update_reference.losses import Batch, Loss, minibatch_loss
from tests.support.update_reference.network import UNITS, encode, forward, lstm_cell, value_head

RUN_NUMBERS = (
    "kl_divergence",
    "clipped_share",
    "gradient_norm",
    "policy_loss",
    "value_loss",
    "explained_variance",
)


class Experience(NamedTuple):
    """What happened at T steps of N environments, as the environments and the policy's actions have it."""

    sizes: tuple[int, ...]  # choices of each of the H heads
    consulted: np.ndarray  # (K, H), which operation uses which head
    state: tuple[np.ndarray, np.ndarray]  # (N, hidden) each, before the first step
    starts: np.ndarray  # (T, N), an episode begins at this step
    observations: np.ndarray  # (T, N, D)
    masks: np.ndarray  # (T, N, K, Σn)
    actions: np.ndarray  # (T, N, H)
    rewards: np.ndarray  # (T, N)
    terminated: np.ndarray  # (T, N)
    truncated: np.ndarray  # (T, N)
    following: np.ndarray  # (T, N, D), what the step led to: the last of an episode that ended, else the next


class Behaviour(NamedTuple):
    """What the policy that acted says of the experience."""

    log_probs: np.ndarray  # (T, N, H)
    values: np.ndarray  # (T, N)
    next_values: np.ndarray  # (T, N)


class Adam(NamedTuple):
    """Kingma & Ba 2015, with the epsilon that PPO implementations use."""

    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    steps: int = 0

    def step(self, parameters, gradients, rate, epsilon=1e-5):
        """The next state of the optimiser, and the next parameters."""
        steps = self.steps + 1
        first = {name: 0.9 * self.first[name] + 0.1 * g for name, g in gradients.items()}
        second = {name: 0.999 * self.second[name] + 0.001 * g**2 for name, g in gradients.items()}
        moved = {
            name: parameters[name]
            - rate * (first[name] / (1 - 0.9**steps)) / (np.sqrt(second[name] / (1 - 0.999**steps)) + epsilon)
            for name in gradients
        }
        return Adam(first, second, steps), moved


class Step(NamedTuple):
    """One optimiser step: the minibatch's loss, and norms before clipping."""

    loss: Loss
    norm: float
    head_norms: list[float]


class Update(NamedTuple):
    """What the update made of the parameters, and what it measured. ``heads``: one mapping a head; ``epochs``: the
    optimiser steps of each whole epoch."""

    parameters: dict[str, np.ndarray]
    run: dict[str, float | None]
    heads: list[dict[str, object]]
    epochs: list[list[Step]]
    nonfinite: bool


def behaviour_of(parameters, experience, masks):
    """Values bootstrap from what followed, with the recurrent state of that moment; a termination has none."""
    trace = forward(parameters, experience.sizes, experience.observations, experience.starts, experience.state)
    log_probs = [
        np.take_along_axis(log_softmax(logits, m.decision), experience.actions[..., h, None], -1)[..., 0]
        for h, (logits, m) in enumerate(zip(trace.logits, masks, strict=True))
    ]
    critic = trace.critic
    after = [
        lstm_cell(
            parameters, critic.name, encode(parameters, critic.name, following), cell.hidden, cell.cell
        ).hidden
        for following, cell in zip(experience.following, critic.cells, strict=True)
    ]
    next_values = np.where(experience.terminated, 0.0, value_head(parameters, np.stack(after))[1])
    return Behaviour(np.stack(log_probs, -1), trace.values, next_values)


def advantages_of(experience, behaviour, gamma, lam):
    """Generalized advantage estimation: discounted sums of one-step errors to the end of each episode."""
    errors = experience.rewards + gamma * behaviour.next_values - behaviour.values
    ended = experience.terminated | experience.truncated
    advantages = np.zeros_like(errors)
    for at in np.ndindex(errors.shape):
        weight = 1.0
        for later in range(at[0], len(errors)):
            advantages[at] += weight * errors[later, at[1]]
            if ended[later, at[1]]:
                break
            weight *= gamma * lam
    return advantages


def lesson(experience, acted, settings):
    """All steps of the experience with what is to be learned from them, as one batch, and the explained variance:
    1 - Var(return - value) / Var(return). ``acted``: the parameters when the experience was made."""
    masks = head_masks(experience.masks, experience.actions[..., 0], experience.consulted, experience.sizes)
    behaviour = behaviour_of(acted, experience, masks)
    advantages = advantages_of(experience, behaviour, settings.gamma, settings.gae_lambda)
    returns = advantages + behaviour.values
    whole = Batch(
        experience.observations,
        experience.starts,
        experience.state,
        experience.actions,
        masks,
        behaviour.log_probs,
        (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8),
        returns,
        np.array([m.choice.mean() for m in masks]),
    )
    return whole, 1 - (returns - behaviour.values).var() / returns.var()


def reference_update(parameters, experience, acted, plan, settings, multipliers, poisoned=None):
    """``plan``: for each epoch, the environments of each minibatch; ``multipliers`` of the entropy coefficient, one
    a head; ``poisoned``: (epoch, minibatch) in which the values are not numbers."""
    whole, explained = lesson(experience, acted, settings)
    before = {name: parameters[name] for name in (*UNITS, "value.output.weight", "value.output.bias")}
    if settings.critic == "own":
        parameters = rescaled(parameters, whole.returns)
    parameters, epochs, nonfinite = _epochs(parameters, whole, plan, settings, multipliers, poisoned)
    if nonfinite and not epochs:  # perhaps for a reward that is no measure of others
        parameters = {**parameters, **before}
    return Update(
        parameters,
        _run_numbers(
            epochs, explained, settings.clip, minibatch_loss(parameters, whole, settings, multipliers)
        ),
        [_head_numbers(epochs, head, whole) for head in range(len(whole.masks))],
        epochs,
        nonfinite,
    )


def rescaled(parameters, returns):
    """The value head in units of the returns of a first rollout; it estimates what it did (van Hasselt et al. 2016)."""
    mean, scale = returns.mean(), math.sqrt(returns.var(ddof=1))
    factor = parameters["value.scale"] / scale
    bias = (
        parameters["value.scale"] * parameters["value.output.bias"] + parameters["value.mean"] - mean
    ) / scale
    units = {"value.mean": mean, "value.scale": scale}
    weight = parameters["value.output.weight"] * factor
    return {**parameters, **units, "value.output.weight": weight, "value.output.bias": bias}


def _epochs(parameters, whole, plan, settings, multipliers, poisoned):
    """The parameters after them, the steps of each whole epoch, and whether one was aborted."""
    zeros = {name: np.zeros_like(array) for name, array in parameters.items() if name not in UNITS}
    adam = Adam(zeros, zeros)
    epochs = []
    for epoch, groups in enumerate(plan):
        steps = []
        for index, environments in enumerate(groups):
            broken = poisoned == (epoch, index)
            batch = _part(whole, environments)
            loss = minibatch_loss(parameters, batch, settings, multipliers, poisoned=broken)
            step = Step(loss, _norm(loss.gradients.values()), _head_norms(loss.gradients))
            if not (math.isfinite(loss.total) and math.isfinite(step.norm)):
                return parameters, epochs, True
            scale = min(1.0, settings.max_gradient_norm / (step.norm + 1e-6))
            clipped = {name: scale * gradient for name, gradient in loss.gradients.items()}
            adam, moved = adam.step(parameters, clipped, settings.learning_rate)
            parameters = {**parameters, **moved}
            steps.append(step)
        epochs.append(steps)
        if _divergence(steps) > settings.target_kl:
            break
    return parameters, epochs, False


def _part(whole, environments):
    """The steps of some of the environments."""
    return Batch(
        whole.observations[:, environments],
        whole.starts[:, environments],
        (whole.state[0][environments], whole.state[1][environments]),
        whole.actions[:, environments],
        [HeadMasks(*(field[:, environments] for field in masks)) for masks in whole.masks],
        whole.log_probs[:, environments],
        whole.advantages[:, environments],
        whole.returns[:, environments],
        whole.shares,
    )


def _norm(arrays):
    return math.sqrt(sum(float((array**2).sum()) for array in arrays))


def _head_norms(gradients):
    own = [array for name, array in gradients.items() if name.startswith("heads.")]
    return [_norm(array[head] for array in own) for head in range(len(own[0]))]


def _divergence(steps):
    """Mean over the steps of one epoch."""
    return np.concatenate([step.loss.divergences.ravel() for step in steps]).mean()


def _run_numbers(epochs, explained, clip, after):
    """Means over the optimiser steps of whole epochs, None without one; ``after``: the whole rollout once more."""
    steps = [step for epoch in epochs for step in epoch]
    if not steps:
        return dict.fromkeys(RUN_NUMBERS)
    # A ratio is 1, and within the clip range, where the head had no choice.
    ratios = np.concatenate([step.loss.ratios.reshape(-1, step.loss.ratios.shape[-1]) for step in steps])
    numbers = (
        after.divergences.mean(),
        ((ratios < 1 - clip) | (ratios > 1 + clip)).any(-1).mean(),
        np.mean([step.norm for step in steps]),
        np.mean([step.loss.policy for step in steps]),
        np.mean([step.loss.value for step in steps]),
        explained,
    )
    return dict(zip(RUN_NUMBERS, numbers, strict=True))


def _head_numbers(epochs, head, whole):
    """Of one head; histories hold a mean of each whole epoch, and what there was not is None."""
    masks = whole.masks[head]
    losses = [[step.loss for step in epoch] for epoch in epochs]
    norms = [step.head_norms[head] for epoch in epochs for step in epoch]
    nats = [np.concatenate([loss.entropies[..., head].ravel() for loss in epoch]) for epoch in losses]
    relative = [np.concatenate([loss.relative[..., head].ravel() for loss in epoch]) for epoch in losses]
    decided = bool(epochs) and masks.choice.any()
    return {
        "entropy_history": tuple(epoch.mean() for epoch in nats),
        "choice_entropy_history": tuple(np.nanmean(epoch) for epoch in relative) if decided else (),
        "choice_share": masks.choice.mean() if epochs else None,
        "open_share": masks.open.mean() if epochs else None,
        "gradient_norm": np.mean(norms) if epochs else None,
        "importance_ratio_max": _largest_ratio(losses, head) if decided else None,
        **_decisions(losses[-1] if losses else [], head, whole),
    }


def _decisions(last_epoch, head, whole):
    choice = whole.masks[head].choice
    log_probs = [loss.decisions[head] for loss in last_epoch]
    return decision_numbers(
        np.concatenate(log_probs) if log_probs else np.empty((0, 1)),
        whole.actions[..., head][choice],
        whole.advantages[choice],
    )


def _largest_ratio(losses, head):
    """At a choice step, where alone the relative entropy is a number."""
    return max(
        loss.ratios[..., head][~np.isnan(loss.relative[..., head])].max(initial=0.0)
        for epoch in losses
        for loss in epoch
    )
