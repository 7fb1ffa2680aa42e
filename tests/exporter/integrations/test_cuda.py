"""The integrations on a GPU, where there is one: their numbers, and how often they let the host wait for it."""

import warnings
from collections import Counter

import numpy as np
import pytest
import torch

from rl_exporter import serve
from tests.support.update_by_hand import Evaluated, head_numbers

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    # Libraries and drivers warn of themselves, and of policies that would be faster on a CPU.
    pytest.mark.filterwarnings("default"),
]

CUDA = torch.device("cuda")
UPDATES = 3


@pytest.fixture
def sb3():
    pytest.importorskip("sb3_contrib")
    from tests.exporter.integrations.sb3 import learning

    return learning


@pytest.fixture
def skrl():
    pytest.importorskip("skrl")
    from tests.support import skrl_reach

    return skrl_reach


@pytest.fixture
def torchrl():
    pytest.importorskip("torchrl")
    from tests.support import torchrl_reach

    return torchrl_reach


def waits(train):
    """Where the host waits for the GPU while ``train`` runs, and how often."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [one for one in caught if "synchronizing CUDA operation" in str(one.message)]
    return Counter(f"{one.filename}:{one.lineno}" for one in found)


def assert_one_more_an_update(measured, plain):
    assert measured.total() - plain.total() == UPDATES, measured - plain


@pytest.mark.parametrize("kind", ["ppo", "masked"])
def test_numbers_of_sb3(sb3, kind, monkeypatch):
    from tests.support.sb3_reach import policy_logits

    model = sb3.sharpen(getattr(sb3, kind)(device=CUDA, learning_rate=0.0))
    norms = sb3.norms_of(model, monkeypatch)
    snapshot = sb3.learned(model)
    buffer, masked = model.rollout_buffer, kind == "masked"
    logits = policy_logits(model.policy, buffer.observations)
    masks = buffer.action_masks.astype(bool) if masked else np.ones(logits.shape, bool)
    ends = np.cumsum(sb3.SIZES)[:-1]
    epoch = Evaluated(
        np.split(logits, ends, 1), np.split(masks, ends, 1), buffer.actions.astype(np.int64),
        buffer.log_probs.reshape(-1, 1), buffer.advantages.ravel().astype(np.float64),
    )  # fmt: skip
    assert snapshot.record_errors == 0
    for head, name in enumerate(sb3.NAMES):
        expected = head_numbers([epoch] * model.n_epochs, head, masked=masked)
        expected |= {"importance_ratio_max": None, "gradient_norm": np.mean(norms, 0)[head]}
        for number, value in expected.items():
            found = getattr(snapshot.tamiyo.readings[name], number)
            if value is None:
                assert found in (None, ()), (name, number)
            else:
                assert found == pytest.approx(value, rel=1e-5, abs=1e-5), (name, number)


def test_numbers_of_skrl(skrl, monkeypatch):
    from tests.exporter.integrations.skrl.measuring import SIZES, assert_heads, measured

    env = skrl.environment(device=CUDA)
    agent = skrl.make_agent(env)
    witness = skrl.Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    assert len(witness.whole()) == 2
    assert_heads(snapshot, witness.whole(), witness.norms)


@pytest.mark.parametrize("masked", [(), ("arm", "valve")])
def test_numbers_of_torchrl(torchrl, masked):
    from tests.exporter.integrations.torchrl.measuring import assert_heads, measured

    loop = torchrl.Loop(masked, device=CUDA)
    snapshot, _ = measured(loop)
    assert_heads(snapshot, loop, loop.whole())


@pytest.mark.parametrize("kind", ["ppo", "masked"])
def test_sb3_waits_once_more_an_update(sb3, kind):
    from rl_exporter.integrations.sb3 import HeadEntropyCallback

    def counted(callback):
        model = getattr(sb3, kind)(device=CUDA)
        return waits(lambda: model.learn(UPDATES * model.n_steps, callback=callback))

    callback = HeadEntropyCallback(listen="127.0.0.1:0", linger=0)
    assert_one_more_an_update(counted(callback), counted(None))
    assert callback.recorder.snapshot().tamiyo.updates == UPDATES


def test_skrl_waits_once_more_an_update(skrl):
    from rl_exporter.integrations.skrl import action_heads, measure

    def counted(measured):
        env = skrl.environment(device=CUDA)
        agent = skrl.make_agent(env)
        with serve(action_heads(env), listen="127.0.0.1:0", linger=0) as recorder:
            if measured:
                measure(agent, recorder)
            found = waits(lambda: skrl.train(env, agent, UPDATES * skrl.ROLLOUTS))
            assert recorder.snapshot().record_errors == 0
            return found

    assert_one_more_an_update(counted(measured=True), counted(measured=False))


@pytest.mark.parametrize("masked", [(), ("arm", "valve")])
def test_torchrl_waits_once_more_an_update(torchrl, masked):
    from rl_exporter.integrations.torchrl import HeadEntropyHook, action_heads

    def counted(measured):
        loop = torchrl.Loop(masked, device=CUDA)
        batches = [loop.rollout() for _ in range(UPDATES)]
        with serve(action_heads(loop.environment), listen="127.0.0.1:0", linger=0) as recorder:
            hook = HeadEntropyHook(loop.loss, recorder, frames_per_batch=torchrl.FRAMES) if measured else None

            def train():
                for batch in batches:
                    for _ in loop.epochs(batch):
                        pass
                    if hook is not None:
                        hook.record(batch)

            found = waits(train)
            assert recorder.snapshot().record_errors == 0
            return found

    assert_one_more_an_update(counted(measured=True), counted(measured=False))
