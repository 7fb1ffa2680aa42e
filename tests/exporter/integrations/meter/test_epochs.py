"""Properties of the measured numbers over random policies, and three references that share no code with it."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.maskable.distributions import MaskableMultiCategoricalDistribution
from scipy.stats import entropy as scipy_entropy

from rl_exporter.integrations.meter.epochs import EpochSteps, entropy_sums
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.result import epoch_means
from rl_training.algorithm.collector import step_masks
from rl_training.policy.distributions import MaskedCategorical


class Case(NamedTuple):
    """T steps of N environments, for K operations (1: none)."""

    sizes: tuple
    logits: np.ndarray  # (T, N, Σn)
    masks: np.ndarray  # (T, N, K, Σn)
    operations: np.ndarray  # (T, N)
    consulted: np.ndarray  # (K, H)

    def permuted(self, order):
        steps, envs = self.operations.shape
        return self._replace(
            **{
                name: getattr(self, name).reshape(steps * envs, *getattr(self, name).shape[2:])[order][:, None]
                for name in ("logits", "masks", "operations")
            }
        )


def random_masks(generator, sizes, consulted, shape):
    """Masks as an environment gives them: what an operation does not consult has its canonical action alone."""
    offsets = np.cumsum((0, *sizes[:-1]))
    masks = generator.random((*shape, len(consulted), sum(sizes))) < 0.5
    for head, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        segment = masks[..., offset : offset + size]
        sure = generator.integers(size, size=masks.shape[:-1])
        np.put_along_axis(segment, sure[..., None], values=True, axis=-1)
        if head == 0:
            segment[...] = segment[..., :1, :]
        for row in np.flatnonzero(~consulted[:, head]):
            segment[..., row, :] = np.arange(size) == 0
    return masks


@st.composite
def cases(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = tuple(draw(st.lists(st.integers(1, 14), min_size=1, max_size=5)))
    kinds = sizes[0] if draw(st.booleans()) else 1
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    consulted = generator.random((kinds, len(sizes))) < 0.6
    consulted[:, 0] = True
    if kinds == 1:
        consulted[:] = True
    masks = random_masks(generator, sizes, consulted, shape)
    chances = masks[..., 0, : sizes[0]] * generator.random((*shape, sizes[0]))
    scale = draw(st.sampled_from([0.0, 1.0, 10.0, 1e4]))
    logits = (scale * generator.standard_normal((*shape, sum(sizes)))).astype(np.float32)
    operations = chances.argmax(-1) if kinds > 1 else np.zeros(shape, dtype=np.int64)
    return Case(sizes, logits, masks, operations, consulted)


def steps_of(case):
    layout = HeadLayout([f"h{i}" for i in range(len(case.sizes))], case.sizes)
    table = case.consulted if len(case.consulted) > 1 else None
    found = step_masks(case.masks, case.operations, layout, table)
    logits = torch.tensor(case.logits)
    entropy, decided = (
        MaskedCategorical(logits, torch.tensor(mask), layout).entropy for mask in (found.step, found.decision)
    )
    log_valid = torch.tensor(np.log(layout.counts(found.decision), dtype=np.float32))
    return EpochSteps(entropy, decided, log_valid, torch.tensor(found.choice)), found, layout


def measured(case):
    """Nats and choice entropy of each head, None where there is none."""
    steps, _, layout = steps_of(case)
    nats, choice = means(steps, 1, layout.names)
    return [v[0] if v else None for v in nats], [v[0] if v else None for v in choice]


def means(steps, epochs, names):
    """Of each head, by epoch: nats and choice entropy."""
    sums = entropy_sums(steps, epochs)
    return [
        list(epoch_means(names, sums[kind], sums[f"{kind}_steps"]).values())
        for kind in ("entropy", "choice_entropy")
    ]


def alike(found, expected, tolerance):
    return all(
        (a is None) == (b is None) and (a is None or abs(a - b) <= tolerance)
        for a, b in zip(found, expected, strict=True)
    )


def reference(case, entropy_of):
    """The same numbers by a plain loop over steps, with somebody else's entropy of one masked head."""
    steps, envs, kinds, _ = case.masks.shape
    nats, choice = [[] for _ in case.sizes], [[] for _ in case.sizes]
    for t, n in np.ndindex(steps, envs):
        rows, operation = case.masks[t, n], case.operations[t, n]
        offset = 0
        for head, size in enumerate(case.sizes):
            segment = slice(offset, offset + size)
            offset += size
            logits = case.logits[t, n, segment].astype(np.float64)
            reaching = [k for k in range(kinds) if case.consulted[k, head] and (kinds == 1 or rows[0, k])]
            step = np.any([rows[k, segment] for k in reaching], axis=0) if reaching else np.arange(size) == 0
            nats[head].append(entropy_of(logits, step))
            valid = int(rows[operation, segment].sum())
            if valid > 1 and case.consulted[operation, head]:
                choice[head].append(entropy_of(logits, rows[operation, segment]) / math.log(valid))
    return [np.mean(v) if v else None for v in nats], [np.mean(v) if v else None for v in choice]


def by_scipy(logits, mask):
    kept = logits[mask]
    return float(scipy_entropy(np.exp(kept - kept.max())))


def by_torch(logits, mask):
    return torch.distributions.Categorical(logits=torch.tensor(logits[mask])).entropy().item()


def by_sb3(logits, mask):
    if mask.sum() == 1:
        return 0.0  # it masks with -1e8 and returns the rounding of that
    distribution = MaskableMultiCategoricalDistribution([len(logits)])
    distribution.proba_distribution(torch.tensor(logits)[None])
    distribution.apply_masking(mask[None])
    return distribution.entropy().item()


@given(cases())
@settings(max_examples=60, deadline=None)
def test_measured_numbers_stay_within_their_bounds(case):
    nats, choice = measured(case)
    _, found, layout = steps_of(case)
    for head, size in enumerate(case.sizes):
        assert -1e-6 <= nats[head] <= math.log(size) + 1e-6
        valid = layout.counts(found.step)[..., head]
        if size > 1:
            assert nats[head] / math.log(size) <= np.mean(np.log(valid)) / math.log(size) + 1e-6
        assert choice[head] is None or -1e-6 <= choice[head] <= 1 + 1e-6
        assert (choice[head] is None) == (not found.choice[..., head].any())


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_steps_does_not_matter(case, random):
    order = list(range(case.operations.size))
    random.shuffle(order)
    for found, expected in zip(measured(case.permuted(order)), measured(case), strict=True):
        assert alike(found, expected, 1e-6)


@given(cases(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_splitting_into_minibatches_does_not_matter(case, parts):
    steps, _, _ = steps_of(case)
    columns = np.array_split(np.arange(case.operations.shape[1]), parts)
    minibatches = [EpochSteps(*(field[:, part] for field in steps)) for part in columns if len(part)]
    split = [entropy_sums(minibatch, 1) for minibatch in minibatches]
    for name, whole in entropy_sums(steps, 1).items():
        assert torch.allclose(sum(sums[name] for sums in split), whole, atol=1e-9), name


@pytest.mark.parametrize("entropy_of", [by_scipy, by_torch, by_sb3])
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_equal_to_an_independent_reference(entropy_of, case):
    if entropy_of is by_sb3 and np.abs(case.logits).max() > 1e3:
        return  # it masks with -1e8, which is no longer out of reach
    for found, expected in zip(measured(case), reference(case, entropy_of), strict=True):
        assert alike(found, expected, 1e-6)


def test_epochs_are_measured_apart():
    entropy = torch.tensor([[[0.2], [0.4], [1.0], [3.0]]])
    choice = torch.tensor([[[True], [False], [False], [False]]])
    steps = EpochSteps(entropy, entropy, torch.ones_like(entropy), choice)
    assert means(steps, 2, ["op"]) == [[pytest.approx((0.3, 2.0))], [pytest.approx((0.2,))]]


def test_what_is_not_finite_is_averaged_into_nothing():
    entropy = torch.tensor([[[0.2], [torch.nan], [0.6]]])
    steps = EpochSteps(entropy, entropy, torch.ones_like(entropy), torch.ones_like(entropy, dtype=torch.bool))
    nats, choice = means(steps, 1, ["op"])
    assert nats == choice == [pytest.approx((0.4,))]
