"""Every number of HeadEntropyHook with real losses of TorchRL, against a second forward pass and NumPy."""

from dataclasses import asdict

import pytest
import torch

from rl_exporter import serve
from rl_exporter.integrations.torchrl import HeadEntropyHook, action_heads
from tests.exporter.integrations.torchrl.measuring import CLOSE, assert_heads, measured
from tests.support.torchrl_reach import FRAMES, SIZES, Loop
from tests.support.update_by_hand import clipped_share, divergence, head_numbers


@pytest.mark.parametrize("masked", [(), ("arm", "valve"), ("arm", "gripper", "valve")])
def test_every_number_of_a_composite_policy(masked):
    loop = Loop(masked)
    snapshot, batch = measured(loop)
    epochs = loop.whole()
    assert [len(epoch.actions) for epoch in epochs] == [FRAMES, FRAMES]
    assert_heads(snapshot, loop, epochs)
    policy = snapshot.tamiyo
    assert policy.kl_divergence == pytest.approx(divergence(epochs), **CLOSE)
    assert policy.clipped_share == pytest.approx(clipped_share(epochs, 0.2), abs=1e-6)
    assert policy.clipped_share == pytest.approx(loop.mean("clip_fraction"), abs=1e-6)
    assert policy.policy_loss == pytest.approx(loop.mean("loss_objective"), **CLOSE)
    assert policy.value_loss == pytest.approx(loop.mean("loss_critic") / 2, **CLOSE)
    assert policy.entropy_coefficient == pytest.approx(0.01)
    ended = batch["next", "done"]
    assert (snapshot.environment_steps, snapshot.episodes) == (FRAMES, int(ended.sum()))
    assert snapshot.episode_return == pytest.approx(batch["next", "episode_reward"][ended].mean().item())
    assert snapshot.episode_length == 7.0
    assert 0.0 < snapshot.update_durations.sum < 60.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TorchRL's own, about how its collectors will change
def test_batches_of_a_collector():
    from torchrl.collectors import Collector

    loop = Loop(("arm",))
    collector = Collector(loop.environment, loop.actor, frames_per_batch=FRAMES, total_frames=3 * FRAMES)
    with serve(action_heads(loop.environment), listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
        returns = []
        for batch in collector:
            for kept in (loop.evaluated, loop.outputs, loop.norms):
                kept.clear()
            with torch.no_grad():
                loop.gae(batch)
            for _ in loop.epochs(batch.reshape(-1), hook=hook):
                pass
            hook.record(batch)
            returns += batch["next", "episode_reward"][batch["next", "done"]].tolist()
        snapshot = recorder.snapshot()
    collector.shutdown()
    assert (snapshot.record_errors, snapshot.tamiyo.updates) == (0, 3)
    assert (snapshot.environment_steps, snapshot.episodes) == (3 * FRAMES, len(returns))
    expected = head_numbers(loop.whole(), 0, masked=True)
    for number in ("entropy", "choice_entropy", "choice_share", "importance_ratio_max"):
        assert getattr(snapshot.tamiyo.readings["arm"], number) == pytest.approx(expected[number], **CLOSE)


def test_a_loss_that_is_not_functional():
    loop = Loop(("arm",), functional=False)
    snapshot, _ = measured(loop)
    assert_heads(snapshot, loop, loop.whole())


def test_rollouts_are_timed_and_updates_are_told_apart():
    loop = Loop()
    snapshot, _ = measured(loop, updates=3)
    assert snapshot.tamiyo.updates == sum(snapshot.update_durations.counts) == 3
    assert sum(snapshot.rollout_durations.counts) == 2
    assert (snapshot.environment_steps, snapshot.episodes) == (3 * FRAMES, 3 * (FRAMES // 7))
    epochs = loop.whole()
    for head, name in enumerate(SIZES):
        expected = head_numbers(epochs, head, masked=False)["entropy"]
        assert snapshot.tamiyo.readings[name].entropy == pytest.approx(expected, **CLOSE)


def test_epochs_end_where_the_loop_says_so():
    loop = Loop(("arm",))
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loop.loss, recorder)
        batch = loop.rollout()
        for _ in loop.epochs(batch, epochs=3, hook=hook):
            hook.end_epoch()
        hook.record(batch)
        assert_heads(recorder.snapshot(), loop, loop.whole())


def test_an_epoch_that_was_cut_short_counts_nowhere():
    loop = Loop(("arm",))
    snapshot, _ = measured(loop, stop=6)  # four minibatches an epoch
    whole, cut = loop.whole()
    assert (len(whole.actions), len(cut.actions)) == (60, 32)
    assert_heads(snapshot, loop, [whole], norms=loop.norms[:4])


@pytest.mark.parametrize("options", [{"stop": 2}, {"drop_last": True}])
def test_without_a_whole_epoch_the_longest_part_is_measured(options):
    loop = Loop(("arm",))
    snapshot, _ = measured(loop, **options)
    part = loop.whole()[0]
    assert len(part.actions) in (32, 48)
    for head, name in enumerate(loop.sizes):
        expected = head_numbers([part], head, masked=True)["entropy"]
        assert snapshot.tamiyo.readings[name].entropy == pytest.approx(expected, **CLOSE)
    assert snapshot.record_errors == 0


def test_advantages_are_compared_as_normalized_over_the_rollout():
    """Also where the loss normalizes them over a minibatch."""
    plain, normalizing = (measured(Loop(normalize_advantage=given), epochs=1)[0] for given in (False, True))
    assert plain.tamiyo.policy_loss != pytest.approx(normalizing.tamiyo.policy_loss, rel=1e-2)
    found = [asdict(snapshot.tamiyo.readings["arm"])["advantage_margin_t"] for snapshot in (plain, normalizing)]
    assert None not in found
    # The first minibatches are the same; then the parameters differ, and with them at most the leading action.
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_numbers_of_the_loop_go_before_those_of_the_hook():
    loop = Loop()
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
        for _ in loop.epochs(loop.rollout(), epochs=1):
            pass
        hook.record(learning_rate=torch.tensor(0.02), environment_steps=7, kl_divergence=0.5)
        snapshot = recorder.snapshot()
    assert (snapshot.environment_steps, snapshot.tamiyo.kl_divergence) == (7, 0.5)
    assert snapshot.learning_rate == pytest.approx(0.02)
    assert snapshot.episode_return is None
