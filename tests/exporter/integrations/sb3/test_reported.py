"""What a model logs and its environments report is taken over, and served while the model learns."""

import urllib.request
from itertools import pairwise

import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.logger import configure

from rl_exporter import RunState
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.exporter.integrations.sb3.learning import learned, ppo
from tests.support.reporting_environment import Reporting


def test_what_the_model_logs_is_taken_over():
    model = ppo()
    snapshot = learned(model, updates=3)
    logged = model.logger.name_to_value
    tamiyo = snapshot.tamiyo
    assert tamiyo.kl_divergence == pytest.approx(logged["train/approx_kl"])
    assert tamiyo.clipped_share == logged["train/clip_fraction"]
    assert tamiyo.policy_loss == logged["train/policy_gradient_loss"]
    assert tamiyo.value_loss == logged["train/value_loss"] / 2, "half the squared error, as in the trainer"
    assert tamiyo.explained_variance == pytest.approx(logged["train/explained_variance"])
    assert tamiyo.entropy_coefficient == model.ent_coef
    assert snapshot.episode_return == np.mean([episode["r"] for episode in model.ep_info_buffer])
    assert snapshot.episode_length == np.mean([episode["l"] for episode in model.ep_info_buffer])
    assert snapshot.environment_metrics == ()
    assert (snapshot.environment_steps, snapshot.episodes) == (96, 19)
    assert sum(snapshot.update_durations.counts) == sum(snapshot.rollout_durations.counts) == 3
    assert 0 < snapshot.update_durations.sum < 60
    run = snapshot.run
    assert (run.run_id, run.algorithm, run.seed, run.device) == ("test", "PPO", "3", "cpu")


def test_what_environments_report_is_taken_over():
    snapshot = learned(ppo(Reporting(bad=True)), updates=2)  # episodes of two steps
    assert {number.series.key: number.value for number in snapshot.environment_metrics} == {
        "steps": 2.0,
        'copies_ratio{copy="0"}': 1.0,
    }
    assert snapshot.record_errors == 0


def test_a2c_logs_other_names():
    model = ppo(kind=A2C)
    tamiyo = learned(model, updates=5).tamiyo
    assert tamiyo.policy_loss == model.logger.name_to_value["train/policy_loss"]
    assert tamiyo.kl_divergence is tamiyo.clipped_share is None
    assert tamiyo.updates == 5


def test_every_update_is_served_while_the_model_learns():
    bodies = []
    callback = HeadEntropyCallback("live", listen="127.0.0.1:0", linger=0, experiment="tests")

    def scrape(_locals, _globals):
        url = callback.recorder.url + "/metrics"
        bodies.append(urllib.request.urlopen(url, timeout=10).read().decode())

    model = ppo()
    model.learn(96, callback=[callback, _on_rollout_start(scrape)])
    assert "rl_policy_head_entropy_nats{" not in bodies[0]
    updates = [body.split('rl_training_updates_total{run_id="live"} ')[1].split("\n")[0] for body in bodies]
    assert [float(one) + 1 for one, _ in pairwise(updates)] == [float(other) for _, other in pairwise(updates)]
    assert 'rl_policy_head_entropy_nats{head="arm",run_id="live"}' in bodies[-1]
    assert 'rl_training_run_state{run_id="live",state="running"} 1' in bodies[-1]
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


def _on_rollout_start(function):
    from stable_baselines3.common.callbacks import BaseCallback

    class Call(BaseCallback):
        def _on_rollout_start(self):
            function(self.locals, self.globals)

        def _on_step(self):
            return True

    return Call()


@pytest.mark.parametrize("name", ["left_knee_torque", "left_knee_torque_of_the_second_robot_arm"])
def test_long_names_of_heads_end_no_training_that_prints_tables(name, capsys, tmp_path):
    model = ppo(verbose=1)
    model.set_logger(configure(str(tmp_path), ["stdout", "log", "csv"]))
    learned(model, updates=2, head_names=[name, "valve", "arm"])
    model.logger.close()
    assert f"{name}/entropy"[:30] in capsys.readouterr().out
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert {f"heads/{name}/state_information", f"heads/{name}/state_information_ratio"} <= set(header)
