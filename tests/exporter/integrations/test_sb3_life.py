"""How a run with HeadEntropyCallback starts, fails and ends, and what it leaves behind."""

import copy
import logging
import pickle
import subprocess
import sys
import urllib.request

import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback

import rl_exporter
from exporter.integrations.reach import Reach, random_masks
from rl_exporter import RunState
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from rl_exporter.integrations.sb3_telemetry import UpdateTelemetry
from scraping import scrape, scrape_to_the_end

SIZES = (4, 2, 6)
OPTIONS = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 1, "device": "cpu"}


def ppo(environment=None, **options):
    return PPO("MlpPolicy", environment or Reach(SIZES), **(OPTIONS | options))


def local(**options):
    return HeadEntropyCallback(**({"listen": "127.0.0.1:0", "linger": 0} | options))


class At(BaseCallback):
    """Calls a function at the start of the rollout with this number."""

    def __init__(self, rollout, function):
        super().__init__()
        self.left, self.function = rollout, function

    def _on_rollout_start(self):
        self.left -= 1
        if self.left == 0:
            self.function(self.model)

    def _on_step(self):
        return True


def fail(error):
    def function(model):
        raise error

    return function


def assert_untouched(model):
    assert "entropy" not in vars(model.policy.action_dist)
    for parameter in model.policy.action_net.parameters():
        assert not parameter._post_accumulate_grad_hooks


@pytest.mark.parametrize(
    ("environment", "options", "names"),
    [
        (Reach(SIZES), {}, ("head_0", "head_1", "head_2")),
        (Reach(SIZES, ["a", "b", "c"]), {}, ("a", "b", "c")),
        (Reach(SIZES, ["a", "b", "c"]), {"head_names": ["x", "y", "z"]}, ("x", "y", "z")),
        (Reach(3), {}, ("action",)),
        (Reach(3, ["gear"]), {}, ("gear",)),
    ],
)
def test_heads_are_named(environment, options, names):
    callback = local(**options)
    ppo(environment).learn(16, callback=callback)
    assert callback.recorder.snapshot().tamiyo.heads.names == names


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (ppo, {"head_names": ["a", "b"]}, "are 2, but the action space .* has 3 heads"),
        (ppo, {"head_names": ["a", "b", "b"]}, "occur more than once"),
        (lambda: ppo("Pendulum-v1"), {}, "no categorical heads"),
        (lambda: DQN("MlpPolicy", "CartPole-v1", device="cpu"), {}, "cannot measure DQN; use it with PPO"),
        (ppo, {"listen": "nowhere"}, "HOST:PORT"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(model, options, reason):
    model = model()
    with pytest.raises(ValueError, match=reason):
        model.learn(16, callback=local(**options))
    assert model.num_timesteps == 0


def test_a_port_in_use_is_refused_before_training():
    with rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0) as other:
        model = ppo()
        with pytest.raises(OSError, match="port is in use"):
            model.learn(16, callback=local(listen=other.url.removeprefix("http://")))
        assert model.num_timesteps == 0


@pytest.mark.parametrize("stop", [None, lambda model: False])
def test_learn_completes_the_run(stop):
    callback, model = local(), ppo()
    model.learn(48, callback=callback if stop is None else [callback, _stops(40)])
    snapshot = callback.recorder.snapshot()
    assert snapshot.run_state is RunState.COMPLETED
    assert (snapshot.tamiyo.updates, snapshot.record_errors) == (3 if stop is None else 2, 0)
    assert_untouched(model)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(callback.recorder.url, timeout=10)


def _stops(steps):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < steps

    return Stop()


def test_a_block_spans_every_learn():
    model = ppo()
    with local() as callback:
        for _ in range(2):
            model.learn(32, callback=callback, reset_num_timesteps=False)
        running = callback.recorder.snapshot()
        assert_untouched(model)
    assert running.run_state is RunState.RUNNING
    assert (running.tamiyo.updates, running.environment_steps) == (4, 64)
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("error", "state"), [(RuntimeError, RunState.FAILED), (KeyboardInterrupt, RunState.INTERRUPTED)]
)
def test_a_block_tells_how_the_run_ended(error, state):
    model = ppo()
    with pytest.raises(error), local() as callback:
        model.learn(64, callback=[callback, At(3, fail(error))])
    assert callback.recorder.snapshot().run_state is state
    assert callback.recorder.snapshot().tamiyo.updates == 2
    assert_untouched(model)


def test_without_a_block_the_next_learn_takes_over_after_an_error():
    callback, model = local(), ppo()
    with pytest.raises(RuntimeError):
        model.learn(64, callback=[callback, At(2, fail(RuntimeError))])
    assert callback.recorder.snapshot().run_state is RunState.RUNNING
    model.learn(32, callback=callback)
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED
    assert callback.recorder.snapshot().record_errors == 0
    assert_untouched(model)


PROGRAM = """
import sys
from exporter.integrations.test_sb3_life import *
def wait(model):
    print(callback.recorder.url, flush=True)
    sys.stdin.readline()
    raise {error}
callback = local(linger=60)
try:
    ppo().learn(64, callback=[callback, At(2, wait)])
except {caught}:
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "caught", "state"),
    [("RuntimeError", "SystemExit", "failed"), ("KeyboardInterrupt", "KeyboardInterrupt", "interrupted")],
)
def test_without_a_block_the_end_of_the_program_tells(error, caught, state):
    program = PROGRAM.format(error=error, caught=caught)
    path = [*sys.path, "tests"]
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path = {path!r}\n{program}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().strip() + "/metrics"
        assert 'state="running"} 1' in scrape(url)
        process.stdin.write("\n")
        process.stdin.flush()
        assert f'state="{state}"}} 1' in scrape_to_the_end(url)
        assert process.wait(30) == (state == "failed")


def test_ctrl_c_while_lingering_keeps_the_model(monkeypatch):
    monkeypatch.setattr(rl_exporter.scrapers.Scrapers, "wait", fail(KeyboardInterrupt))
    callback, model = local(), ppo()
    monkeypatch.setattr(
        rl_exporter.scrapers.Scrapers, "wait", lambda self, seconds: fail(KeyboardInterrupt)(self)
    )
    assert model.learn(32, callback=callback) is model
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


@pytest.mark.parametrize("broken", ["add", "result", "__init__"])
def test_an_error_in_telemetry_never_reaches_the_training(monkeypatch, caplog, broken):
    def explode(*arguments):
        raise ZeroDivisionError(broken)

    monkeypatch.setattr(UpdateTelemetry, broken, explode)
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
    assert "evaluated" in str(caplog.records[0].exc_info[1])


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
