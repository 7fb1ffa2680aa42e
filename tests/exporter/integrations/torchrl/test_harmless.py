"""Whatever happens in HeadEntropyHook: the training and the loss are as they were without it."""

import copy
import logging
import pickle
import subprocess
import sys

import pytest
import torch

from rl_exporter import serve
from rl_exporter.integrations.meter.update import MeteredUpdate
from rl_exporter.integrations.torchrl import HeadEntropyHook, action_heads, hook
from tests.support.torchrl_reach import FRAMES, SIZES, Loop


@pytest.fixture
def recorder():
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as found:
        yield found


def train(loop, measurement=None):
    batch = loop.rollout()
    for _ in loop.epochs(batch, epochs=1, hook=measurement):
        pass
    return batch


def weights(loop):
    return [parameter.detach().clone() for parameter in loop.loss.parameters()]


def assert_untouched(loop):
    assert "get_dist" not in vars(loop.loss.actor_network)


def test_the_weights_stay_the_same(recorder):
    measured = Loop(("arm",))
    found = HeadEntropyHook(measured.loss, recorder, frames_per_batch=FRAMES)
    found.record(train(measured, found))
    plain = Loop(("arm",))
    train(plain)
    assert all(map(torch.equal, weights(measured), weights(plain)))
    assert_untouched(measured)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MeteredUpdate, "add"),
        (MeteredUpdate, "end_epoch"),
        (MeteredUpdate, "result"),
        (MeteredUpdate, "add_gradients"),
        (hook, "decisions"),
        (hook, "rollout_numbers"),
        (hook.DeviceMeans, "take"),
        (HeadEntropyHook, "_add_losses"),
    ],
)
def test_an_error_in_telemetry_never_reaches_the_training(recorder, monkeypatch, caplog, owner, name):
    def explode(*arguments):
        raise ZeroDivisionError(name)

    monkeypatch.setattr(owner, name, explode)
    loop = Loop()
    found = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
    for _ in range(2):
        found.record(train(loop, found))
    snapshot = recorder.snapshot()
    assert snapshot.record_errors >= 2
    # Whatever broke costs its own numbers: an update is recorded with the others.
    assert snapshot.tamiyo.updates == 2
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 2
    assert name in caplog.text
    assert_untouched(loop)


def test_a_number_that_is_none_is_counted(recorder, caplog):
    loop = Loop()
    found = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
    train(loop)
    found.record(lerning_rate=0.1)
    assert recorder.snapshot().record_errors == 1
    assert "lerning_rate" in caplog.text


def test_an_error_of_the_loss_leaves_nothing_behind(recorder):
    loop = Loop()
    HeadEntropyHook(loop.loss, recorder)
    batch = loop.rollout()
    with pytest.raises(KeyError, match="arm_log_prob"):
        loop.loss(batch.exclude("arm_log_prob", "gripper_log_prob", "valve_log_prob"))
    assert_untouched(loop)
    train(loop)
    assert_untouched(loop)


def test_evaluations_without_gradient_are_not_measured(recorder, caplog):
    loop = Loop()
    found = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
    with torch.no_grad():
        loop.loss(loop.rollout())
    found.record()
    found.record()
    assert not any(reading.measured for reading in recorder.snapshot().tamiyo.readings.values())
    assert caplog.text.count("no evaluation of the loss was measured") == 1
    assert recorder.snapshot().record_errors == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it compiles
def test_a_compiled_loss_is_compiled_as_before(recorder, caplog):
    loop, plain = Loop(), Loop()
    found = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
    compiled = [torch.compile(one.loss, backend="eager", fullgraph=True) for one in (loop, plain)]
    batch = loop.rollout()
    outputs = [loss(batch) for loss in compiled]
    assert torch.equal(outputs[0]["loss_objective"], outputs[1]["loss_objective"])
    found.record(batch)
    assert "no evaluation of the loss was measured" in caplog.text
    assert_untouched(loop)


def test_a_copy_of_the_loss_measures_nothing(recorder):
    loop = Loop()
    found = HeadEntropyHook(loop.loss, recorder)
    batch = loop.rollout()
    copies = copy.deepcopy(loop.loss), pickle.loads(pickle.dumps(loop.loss))
    for one in copies:
        one(batch)
    assert found._epoch.frames == 0
    loop.loss(batch)
    assert found._epoch.frames == FRAMES


def test_a_hook_can_be_removed(recorder):
    loop = Loop()
    before = len(loop.loss._forward_hooks), len(loop.loss._forward_pre_hooks)
    first = HeadEntropyHook(loop.loss, recorder)
    second = HeadEntropyHook(loop.loss, recorder)
    first.remove()
    train(loop)
    assert (first._epoch.frames, second._epoch.frames) == (0, FRAMES)
    second.remove()
    assert (len(loop.loss._forward_hooks), len(loop.loss._forward_pre_hooks)) == before


def test_two_hooks_measure_the_same(recorder):
    loop = Loop()
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as other:
        hooks = [HeadEntropyHook(loop.loss, one, frames_per_batch=FRAMES) for one in (recorder, other)]
        train(loop)
        for one in hooks:
            one.record()
        entropies = [one.snapshot().tamiyo.entropy for one in (recorder, other)]
    assert entropies[0] == entropies[1] > 0.0
    assert_untouched(loop)


def test_nothing_kept_holds_the_graph(recorder):
    loop = Loop(("arm",))
    found = HeadEntropyHook(loop.loss, recorder)
    loop.loss(loop.rollout())
    (minibatch,) = found._epoch._kept
    tensors = [value for value in vars(minibatch).values() if isinstance(value, torch.Tensor)]
    tensors += [*minibatch.logits.values(), *minibatch.masks.values(), *found._losses._values]
    assert len(tensors) > 8
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize(
    ("heads", "options", "reason"),
    [
        ({"arm": 5, "leg": 2}, {}, "head 'leg' is no action of the policy; actions: arm, gripper, valve"),
        ({"arm": 4}, {}, "head 'arm' was declared with 4 choices, the policy has 5"),
        (SIZES, {"frames_per_batch": 0}, "frames_per_batch is 0; give the frames of a rollout, 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(heads, options, reason):
    loop = Loop()
    with (
        serve(heads, listen="127.0.0.1:0", linger=0) as recorder,
        pytest.raises(ValueError, match=reason),
    ):
        HeadEntropyHook(loop.loss, recorder, **options)
    assert action_heads(loop.environment) == SIZES


def test_other_losses_are_refused(recorder):
    with pytest.raises(TypeError, match="ClipPPOLoss, KLPENPPOLoss and PPOLoss, not Linear"):
        HeadEntropyHook(torch.nn.Linear(1, 1), recorder)


def test_some_of_the_heads_can_be_measured():
    loop = Loop(("arm",))
    with serve({"valve": 2}, listen="127.0.0.1:0", linger=0) as recorder:
        found = HeadEntropyHook(loop.loss, recorder, frames_per_batch=FRAMES)
        found.record(train(loop))
        reading = recorder.snapshot().tamiyo.readings["valve"]
    assert reading.entropy > 0.0
    assert reading.choice_share is None
    assert recorder.snapshot().tamiyo.kl_divergence is None


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["torchrl", "tensordict"])
def test_without_the_library_the_import_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; import rl_exporter.integrations.torchrl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith(
        "ImportError: rl_exporter.integrations.torchrl needs TorchRL; pip install torchrl\n"
    )
