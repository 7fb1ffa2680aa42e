"""The fit of the preferences over several ranks, and what happens to it when one of them fails."""

from functools import partial

import numpy as np
import pytest
import torch

from rl_exporter.decisions import (
    MINORIZE_STEPS,
    MINORIZE_STEPS_ALONE,
    NEWTON_CHOICES,
    NEWTON_STEPS,
)
from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.preference import (
    fit_preferences,
)
from rl_training.ranks import RankLostError
from tests.support.random_policies import (
    CPU,
    Policy,
    by_solver,
    choice_steps_of,
    fitted,
    layout_of,
    nats_of,
)
from tests.support.ranks import at_once, thread_ranks


class CountingRanks:
    """The only rank, which counts its exchanges."""

    rank, size, exchanges = 0, 1, 0

    def all_reduce(self, tensors):
        self.exchanges += 1


@pytest.mark.parametrize("fails_at", ["never", "begin", "denominators", "newton_sums", "log_normalizer"])
def test_every_path_exchanges_equally_often(monkeypatch, fails_at):
    """The other ranks wait in each of the exchanges."""

    def broken(self, *arguments):
        raise RuntimeError("no memory for telemetry")

    policy = Policy((2,), np.zeros((9, 2), np.float32), np.ones((9, 2), bool), np.ones((9, 1), bool))
    if fails_at != "never":
        monkeypatch.setattr(f"rl_exporter.integrations.meter.preference._Fit.{fails_at}", broken)
    attempt, ranks = Attempt(), CountingRanks()
    found = fit_preferences(partial(choice_steps_of, policy), layout_of(policy), ranks, attempt, CPU)
    assert ranks.exchanges == 1 + MINORIZE_STEPS + NEWTON_STEPS
    assert (found is None) == (attempt.failure is not None) == (fails_at != "never")


def test_a_policy_with_a_wide_head_does_without_newtons_steps():
    """Under random masks, ten minorize-maximize steps find a mild policy's preference as well."""
    generator, sizes = np.random.default_rng(4), (NEWTON_CHOICES + 1, 3)
    masks = generator.random((400, sum(sizes))) < 0.9
    masks[:, -3:] = True
    logits = generator.standard_normal(masks.shape).astype(np.float32)
    policy = Policy(sizes, logits, masks, np.ones((400, 2), bool))
    ranks = CountingRanks()
    fitted(policy, ranks)
    assert ranks.exchanges == 1 + MINORIZE_STEPS_ALONE
    for found, (probabilities, valid) in zip(nats_of(policy), policy.heads(), strict=True):
        assert found == pytest.approx(by_solver(probabilities, valid), abs=1e-3)


def test_a_rank_that_fails_adds_nothing():
    policy = Policy((3,), np.zeros((9, 3), np.float32), np.ones((9, 3), bool), np.ones((9, 1), bool))

    def fit(rank):
        steps = partial(choice_steps_of, policy) if rank.rank == 0 else (lambda: 1 / 0)
        return fit_preferences(steps, layout_of(policy), rank, Attempt(), CPU)

    zero, one = at_once([partial(fit, rank) for rank in thread_ranks(2)])
    assert one is None
    assert torch.equal(zero.weights, fitted(policy).weights)


def test_a_lost_rank_ends_the_run():
    class Lost:
        def all_reduce(self, tensors):
            raise RankLostError("gone")

    policy = Policy((2,), np.zeros((9, 2), np.float32), np.ones((9, 2), bool), np.ones((9, 1), bool))
    with pytest.raises(RankLostError):
        fitted(policy, Lost())
