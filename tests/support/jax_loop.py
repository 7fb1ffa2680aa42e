"""A real training loop in JAX, metered: what the meter found, and what NumPy and SciPy make of the same policy.

A process of its own: JAX starts threads, and other tests fork.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import ttest_ind

from rl_exporter.integrations.numpy import HeadMeter

HEADS, BOUNDS = {"a": 4, "b": 3}, (slice(0, 4), slice(4, 7))
UPDATES, EPOCHS, MINIBATCHES, STEPS = 3, 2, 2, 64
CLIP, RATE = 0.2, 1.0


def log_probs_of(layer, observations, masks):
    logits = jnp.where(masks, observations @ layer["kernel"] + layer["bias"], -1e8)
    return logits, jnp.concatenate([jax.nn.log_softmax(logits[:, own]) for own in BOUNDS], 1)


def loss_of(layer, batch):
    logits, log_probs = log_probs_of(layer, batch["observations"], batch["masks"])
    taken = jnp.take_along_axis(log_probs, batch["columns"], 1)
    ratio = jnp.exp(taken - batch["old"])
    loss = -jnp.mean(batch["advantages"][:, None] * ratio)
    return loss, (logits, taken)


@jax.jit
def step(layer, batch):
    gradient, found = jax.grad(loss_of, has_aux=True)(layer, batch)
    return jax.tree.map(lambda weight, slope: weight - RATE * slope, layer, gradient), gradient, found


def rollout(generator, layer):
    """Observations, masks, sampled actions and advantages of an update, and how likely the actions were."""
    observations = generator.standard_normal((STEPS, 5)).astype(np.float32)
    masks = generator.random((STEPS, 7)) < 0.7
    masks[:, [0, 4]] = True
    _, log_probs = log_probs_of(layer, observations, masks)
    noisy = np.where(masks, np.asarray(log_probs) + generator.gumbel(size=(STEPS, 7)), -np.inf)
    columns = np.stack([noisy[:, own].argmax(1) + own.start for own in BOUNDS], 1)
    old = np.take_along_axis(np.asarray(log_probs), columns, 1)
    advantages = (columns[:, 0] == 1) - 0.5 + 0.1 * generator.standard_normal(STEPS)
    return {
        "observations": observations,
        "masks": masks,
        "columns": columns,
        "old": old,
        "advantages": advantages.astype(np.float32),
    }


def train():
    """The meter's numbers of each update, and the second computation's."""
    generator = np.random.default_rng(0)
    layer = {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(7)}
    meter, found, expected = HeadMeter(HEADS, clip=CLIP), [], []
    for _ in range(UPDATES):
        data, seen = rollout(generator, layer), []
        for _ in range(EPOCHS):
            for rows in generator.permutation(STEPS).reshape(MINIBATCHES, -1):
                batch = {name: part[rows] for name, part in data.items()}
                seen.append((jax.tree.map(np.asarray, layer), batch))
                layer, gradient, (logits, taken) = step(layer, batch)
                meter.add(
                    logits,
                    actions=batch["columns"] - np.array([0, 4]),
                    advantages=batch["advantages"],
                    log_probs=taken,
                    old_log_probs=batch["old"],
                )
                meter.gradients(gradient, axis=-1)
            meter.end_epoch()
        found.append(meter.result())
        expected.append(second_computation(seen))
    return {"found": found, "expected": expected}


def second_computation(seen):
    """From the weights before each optimiser step, in float64."""
    rows = [_of_minibatch(layer, batch) for layer, batch in seen]
    every = {name: np.concatenate([row[name] for row in rows]) for name in ("entropy", "valid", "ratio")}
    of_last = ("p", "valid", "masks", "entropy", "columns", "advantages")
    last = {name: np.concatenate([row[name] for row in rows[-MINIBATCHES:]]) for name in of_last}
    names = ("entropy", "choice_entropy", "choice_share", "ratio", "norm", "shares", "information", "margin")
    numbers = {name: {} for name in names}
    for head, (name, own) in enumerate(zip(HEADS, BOUNDS, strict=True)):
        entropy, valid = every["entropy"][:, head], every["valid"][:, head]
        chose = valid > 1
        numbers["entropy"][name] = entropy.mean()
        by_epoch = [
            (entropy[part][chose[part]] / np.log(valid[part][chose[part]])).mean()
            for part in np.split(np.arange(len(entropy)), EPOCHS)
        ]
        numbers["choice_entropy"][name] = np.mean(by_epoch)
        numbers["choice_share"][name] = chose.mean()
        numbers["ratio"][name] = every["ratio"][chose, head].max()
        numbers["norm"][name] = np.mean([row["norm"][head] for row in rows])
        decided = last["valid"][:, head] > 1
        p = last["p"][decided, own]
        numbers["shares"][name] = p.mean(0).tolist()
        numbers["information"][name] = least_cross_entropy(p, last["masks"][decided, own]) - (
            last["entropy"][decided, head].mean()
        )
        leads = last["columns"][decided, head] - own.start == p.mean(0).argmax()
        paid = last["advantages"][decided].astype(np.float64)
        welch = ttest_ind(paid[leads], paid[~leads], equal_var=False)
        numbers["margin"][name] = [paid[leads].mean() - paid[~leads].mean(), welch.statistic]
    chose = every["valid"] > 1
    numbers["clipped_share"] = (np.abs(np.where(chose, every["ratio"], 1.0) - 1) > CLIP).any(1).mean()
    return numbers


def least_cross_entropy(p, masks):
    """Of the best preference, from the policy to it, in nats."""

    def cross_entropy(logarithms):
        normalizers = logsumexp(np.where(masks, logarithms, -np.inf), axis=1)
        return (normalizers - p @ logarithms).mean()

    return minimize(cross_entropy, np.zeros(p.shape[1]), method="BFGS", options={"gtol": 1e-9}).fun


def _of_minibatch(layer, batch):
    observations = batch["observations"].astype(np.float64)
    logits = np.where(batch["masks"], observations @ layer["kernel"] + layer["bias"], -np.inf)
    log_p = np.concatenate([log_softmax(logits[:, own], axis=1) for own in BOUNDS], 1)
    p = np.exp(log_p)
    terms = np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0)
    taken = np.take_along_axis(log_p, batch["columns"], 1)
    ratio = np.exp(taken - batch["old"])
    picked = np.zeros_like(p)
    np.put_along_axis(picked, batch["columns"], 1.0, 1)
    weight = batch["advantages"][:, None] * ratio / ratio.size
    slope = np.concatenate([weight[:, [head]] * (p - picked)[:, own] for head, own in enumerate(BOUNDS)], 1)
    gradient = np.concatenate([observations.T @ slope, slope.sum(0, keepdims=True)])
    return {
        "entropy": np.stack([-terms[:, own].sum(1) for own in BOUNDS], 1),
        "valid": np.stack([batch["masks"][:, own].sum(1) for own in BOUNDS], 1),
        "ratio": ratio,
        "norm": [np.linalg.norm(gradient[:, own]) for own in BOUNDS],
        "p": p,
        **batch,
    }


def waits():
    """Whether ``add`` waits until the device has computed the logits; three tries, on busy cores."""

    @jax.jit
    def slow(rows):
        product = jnp.ones((1000, 1000)) * rows[0, 0]
        for _ in range(10):
            product = product @ product * 1e-3
        return rows + 0 * product[0, 0]

    rows = jnp.asarray(np.random.default_rng(0).standard_normal((20, 7)), jnp.float32)
    slow(rows).block_until_ready()
    meter, waited = HeadMeter(HEADS), []
    meter.add(rows, np.ones((20, 7), bool))
    expected = meter.result()
    for _ in range(3):
        logits, copied = slow(rows), np.ones((20, 7), bool)
        meter.add(logits, copied)
        copied[:] = False  # what is no array of JAX may change before the meter reads it
        waited.append(logits.is_ready())
        meter.end_epoch()
        same = meter.result() == expected
    return {"waited": all(waited), "same": same}


def half_precision():
    """Of JAX's bfloat16, and of the same numbers in float64."""
    rows = jnp.asarray(np.random.default_rng(0).standard_normal((20, 7)), jnp.bfloat16)
    results = []
    for logits in (rows, np.asarray(rows.astype(jnp.float32)).astype(np.float64)):
        meter = HeadMeter(HEADS)
        for _ in range(2):
            meter.add(logits)
        results.append(meter.result())
    return {"same": results[0] == results[1]}


def errors():
    """What a traced array says, and what happens where the loop deletes one."""
    rows, lines = jnp.ones((20, 7)), []
    try:
        jax.jit(lambda logits: HeadMeter(HEADS).add(logits))(rows)
    except TypeError as error:
        lines.append(str(error))
    meter = HeadMeter(HEADS)
    meter.add(rows)
    meter.result()
    donated = rows + 1
    meter.add(donated)
    donated.delete()
    after = [meter.result()]
    meter.add(rows)
    return {"lines": lines, "after": [*after, sorted(meter.result())]}


def wide():
    """What is left of an update of a wide head whose logits are gone after ``add``."""
    meter = HeadMeter({"token": 1500})
    for _ in range(2):
        logits = jnp.ones((4, 1500))
        meter.add(logits)
        logits.delete()
    return sorted(meter.result())


def main():
    """Print one JSON document."""
    parts = (train, waits, half_precision, errors, wide)
    json.dump({part.__name__: part() for part in parts}, sys.stdout, default=float)


if __name__ == "__main__":
    main()
