"""Whatever happens in HeadEntropyCallback: the training and the model are as they were without it."""

import copy
import logging
import pickle
import subprocess
import sys

import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback

import rl_exporter
from rl_exporter import HeadState, RunState
from rl_exporter.integrations.meter.update import MeteredUpdate
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.support.sb3_reach import OPTIONS, At, Reach, assert_untouched, local, random_masks
from tests.support.sb3_reach import small_ppo as ppo

pytestmark = pytest.mark.slow

SIZES = (4, 2, 6)


@pytest.mark.parametrize("broken", ["add", "result", "end_epoch"])
def test_an_error_in_telemetry_never_reaches_the_training(monkeypatch, caplog, broken):
    def explode(*arguments):
        raise ZeroDivisionError(broken)

    monkeypatch.setattr(MeteredUpdate, broken, explode)
    callback, model = local(), ppo()
    model.learn(48, callback=callback)
    snapshot = callback.recorder.snapshot()
    assert model.num_timesteps == 48
    assert snapshot.run_state is RunState.COMPLETED
    assert snapshot.tamiyo.updates == 3
    assert snapshot.tamiyo.value_loss is not None
    assert snapshot.record_errors >= 3
    assert not any(reading.measured for reading in snapshot.tamiyo.readings.values())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert broken in str(record.exc_info[1])
    assert_untouched(model)


def test_steps_that_do_not_add_up_to_epochs_are_not_measured(monkeypatch, caplog):
    original = PPO.train

    def train(self):
        original(self)
        for batch in self.rollout_buffer.get(12):
            self.policy.evaluate_actions(batch.observations, batch.actions)
            self.policy.evaluate_actions(batch.observations, batch.actions)

    monkeypatch.setattr(PPO, "train", train)
    callback = local()
    ppo().learn(16, callback=callback)
    snapshot = callback.recorder.snapshot()
    assert (snapshot.tamiyo.updates, snapshot.record_errors) == (1, 1)
    assert not any(reading.measured for reading in snapshot.tamiyo.readings.values())
    assert "add up to whole epochs" in str(caplog.records[0].exc_info[1])


def test_evaluations_on_the_side_are_not_measured():
    def evaluate(model):
        with torch.no_grad():
            model.policy.evaluate_actions(torch.zeros(5, 4), torch.zeros(5, 3))

    class Side(BaseCallback):
        def _on_rollout_end(self):
            evaluate(self.model)

        def _on_step(self):
            return True

    snapshots = []
    for extra in ([], [At(1, evaluate), Side()]):
        callback = local()
        ppo().learn(32, callback=[callback, *extra])
        snapshots.append(callback.recorder.snapshot().tamiyo)
    assert snapshots[0].readings == snapshots[1].readings
    assert snapshots[0].readings["head_0"].measured


def test_what_is_not_finite_is_counted_and_in_no_mean():
    class Poison(BaseCallback):
        def _on_rollout_end(self):
            with torch.no_grad():
                self.model.policy.action_net.bias[0] = torch.nan

        def _on_step(self):
            return True

    validate = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        callback = local()
        ppo().learn(16, callback=[callback, Poison()])
    finally:
        torch.distributions.Distribution.set_default_validate_args(validate)
    snapshot = callback.recorder.snapshot()
    first, second = snapshot.tamiyo.readings["head_0"], snapshot.tamiyo.readings["head_1"]
    assert not first.measured
    assert first.nan_values == 2 * 16 + 4, "every step of both epochs, and every optimiser step"
    assert second.nan_values == 16 + 8 + 4, "every step after the first optimiser step"
    assert second.entropy == pytest.approx(0.693, abs=1e-3)
    assert first.state is HeadState.EXPLODING
    assert snapshot.record_errors == 0


def test_copies_and_pickles_of_the_policy_carry_nothing_of_it():
    copies = []

    def clone(model):
        copies.extend([copy.deepcopy(model.policy), pickle.loads(pickle.dumps(model.policy.action_dist))])

    ppo().learn(32, callback=[local(), At(1, clone)])
    policy, distribution = copies
    assert policy.action_dist.entropy.__self__ is policy.action_dist
    assert distribution.entropy.__self__ is distribution
    observations, actions = torch.zeros(5, 4), torch.zeros(5, 3)
    assert policy.evaluate_actions(observations, actions)[2].shape == (5,)


def test_the_model_can_be_saved_while_it_learns(tmp_path):
    model = ppo()
    model.learn(32, callback=[local(), CheckpointCallback(20, str(tmp_path))])
    (saved,) = tmp_path.glob("*.zip")
    assert_untouched(PPO.load(saved))


def test_two_callbacks_listen_to_one_model():
    first, second, model = local(), local(), ppo()
    model.learn(32, callback=[first, second])
    readings = [callback.recorder.snapshot().tamiyo.readings for callback in (first, second)]
    assert readings[0] == readings[1]
    assert readings[0]["head_0"].measured
    assert_untouched(model)


def test_a_recorder_of_ones_own_is_fed_and_not_ended():
    with rl_exporter.serve({"a": 4, "b": 2, "c": 6}, listen="127.0.0.1:0", linger=0) as recorder:
        ppo().learn(32, callback=HeadEntropyCallback(recorder=recorder))
        snapshot = recorder.snapshot()
        assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.RUNNING, 2)
        assert snapshot.tamiyo.readings["c"].measured
        with pytest.raises(ValueError, match="declared with a 4, b 2, c 6, but the action space"):
            ppo(Reach((4, 2))).learn(16, callback=HeadEntropyCallback(recorder=recorder))
        with pytest.raises(ValueError, match="either a recorder, or run_id"):
            HeadEntropyCallback("mine", recorder=recorder)


def test_masks_may_be_switched_off():
    model = MaskablePPO("MlpPolicy", Reach(SIZES, masks=random_masks), **OPTIONS)
    callback = local()
    model.learn(16, callback=callback, use_masking=False)
    assert {r.choice_share for r in callback.recorder.snapshot().tamiyo.readings.values()} == {1.0}


def test_a_policy_without_an_action_layer_of_its_own_reports_no_gradients():
    model = ppo()
    model.policy.action_net.requires_grad_(False)
    callback = local()
    model.learn(16, callback=callback)
    snapshot = callback.recorder.snapshot()
    assert snapshot.tamiyo.readings["head_0"].measured
    assert snapshot.tamiyo.readings["head_0"].gradient_norm is None
    assert snapshot.record_errors == 0


def _python(code):
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_exporter_alone_loads_no_training_library():
    loaded = _python("import rl_exporter, rl_exporter.integrations; print(*sys.modules)").stdout.split()
    assert "rl_exporter.recorder" in loaded
    assert not {"torch", "numpy", "gymnasium", "stable_baselines3"} & set(loaded)


def test_without_stable_baselines3_the_import_says_what_to_install():
    result = _python("sys.modules['stable_baselines3'] = None\nimport rl_exporter.integrations.sb3")
    assert result.returncode == 1
    assert result.stderr.endswith(
        "ImportError: rl_exporter.integrations.sb3 needs Stable-Baselines3; pip install stable-baselines3\n"
    )
