"""On a GPU, the integrations of SB3, TorchRL and skrl let the host wait once an update, as the meter does."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Categorical

from rl_exporter import serve
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.sb3.listener import PolicyListener
from rl_exporter.integrations.skrl import measure
from rl_exporter.integrations.torch import HeadMeter
from rl_exporter.integrations.torchrl import HeadEntropyHook
from rl_exporter.integrations.torchrl.distributions import head_logits
from tests.exporter.integrations.sb3.learning import NAMES, SIZES, masked, ppo
from tests.support.skrl_reach import environment, make_agent, train
from tests.support.stand_in_gpu import stand_in_gpu
from tests.support.torchrl_reach import FRAMES, Loop
from tests.support.torchrl_reach import SIZES as TORCHRL_HEADS

SB3_HEADS = dict(zip(NAMES, SIZES, strict=True))


@pytest.fixture
def events(monkeypatch):
    """torch refuses to make events without a GPU. Each notes how often the host had waited when it was awaited."""

    noted = SimpleNamespace(traffic=None, awaited=[])

    class Event:
        def record(self):
            pass

        def synchronize(self):
            noted.awaited.append(list(noted.traffic.waits))

    noted.kind = Event
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return noted


@pytest.mark.parametrize("masked", [(), ("arm",)])
def test_torchrl(monkeypatch, events, masked):
    loop = Loop(masked)
    batch = loop.rollout()
    heard = []
    monkeypatch.setattr(HeadEntropyHook, "_hear", lambda self, *arguments: heard.append(arguments))
    with serve(TORCHRL_HEADS, listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
        for part in batch.split(20):
            loop.loss(part)
        monkeypatch.undo()
        monkeypatch.setattr(torch.cuda, "Event", events.kind)
        with stand_in_gpu(monkeypatch, on_host=hook._meter._update._former) as traffic:
            events.traffic = traffic
            for arguments in heard:
                hook._hear(*arguments)
            assert traffic.waits == []
            hook.record(batch)
        assert recorder.snapshot().record_errors == 0
        assert recorder.snapshot().episode_return is not None
        assert recorder.snapshot().tamiyo.readings["arm"].measured
    assert len(heard) == 3
    assert traffic.waits == ["cpu"]
    assert traffic.downloads == ["to"] * 2
    # By the time that somebody reads the copies, the device has done all before.
    assert events.awaited == [["cpu"]] * 2


def test_skrl(monkeypatch, events):
    env = environment()
    agent = make_agent(env)
    heard = []
    with serve({"a": 4, "b": 2, "c": 6}, listen="127.0.0.1:0", linger=0) as recorder:
        measurement = measure(agent, recorder)
        hear, record, sampled = measurement._hear, measurement._record, measurement._minibatches.sampled
        monkeypatch.setattr(measurement._minibatches, "sampled", lambda *given: heard.append((sampled, given)))
        monkeypatch.setattr(measurement, "_hear", lambda *given: heard.append((hear, given)))
        monkeypatch.setattr(measurement, "_record", lambda *given: heard.append((record, given)))
        train(env, agent)
        with stand_in_gpu(monkeypatch, on_host=measurement._meter._update._former) as traffic, torch.no_grad():
            events.traffic = traffic
            for function, given in heard[:-1]:
                function(*given)
            assert traffic.waits == []
            record(*heard[-1][1])
        assert recorder.snapshot().record_errors == 0
        assert recorder.snapshot().tamiyo.readings["c"].entropy > 0.0
        assert recorder.snapshot().tamiyo.kl_divergence > 0.0
    assert len(heard) == 9  # two epochs of three minibatches, each sampled before, and the end
    assert traffic.waits == ["cpu"]
    assert events.awaited == [["cpu"]]


@pytest.mark.parametrize("build", [ppo, masked])
def test_sb3(monkeypatch, build):
    """Its buffers are NumPy arrays: they go to the GPU from page-locked memory."""
    model = build()
    model.learn(model.n_steps)
    buffer = model.rollout_buffer
    seen = [torch.from_numpy(part) for part in (buffer.observations, buffer.actions)]
    seen += [torch.from_numpy(buffer.action_masks)] if build is masked else []
    failures = []
    meter = HeadMeter(
        SB3_HEADS, partial_epochs=True, lenient=True, count_error=lambda: failures.append("meter")
    )
    with stand_in_gpu(monkeypatch, on_host=meter._update._former) as traffic:
        listener = PolicyListener(model, meter, ErrorGuard(lambda: failures.append("listener")))
        for _ in range(2):
            waits, uploads = [], len(traffic.uploads)
            with only_here(traffic, waits):
                listener.begin_update()
            # The policy of MaskablePPO waits for its masks.
            _, _, entropy = model.policy.evaluate_actions(*seen)
            entropy.mean().backward()
            with only_here(traffic, waits):
                found = listener.end_update()
            assert waits == ["cpu"]
            assert len(traffic.uploads) > uploads
    assert failures == []
    assert found.head_advantage_margin != {}


@contextmanager
def only_here(traffic, waits):
    before = len(traffic.waits)
    yield
    waits += traffic.waits[before:]


def test_logits_of_a_distribution_are_not_read(monkeypatch):
    given = Categorical(probs=torch.rand(4, 3))
    with stand_in_gpu(monkeypatch) as traffic:
        head_logits(given)
    assert traffic.waits == []
