"""What the exporter beside an algorithm of RLlib does when things go well, wrong, or on."""

import socket

import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

from rl_exporter import RunState, serve
from rl_exporter.integrations.rllib import HeadPPOTorchLearner, ResultRecorder, heads_of
from rl_exporter.integrations.rllib.module_meter import ModuleMeter
from tests.support.rllib.environments import Box, Reach, Two
from tests.support.rllib.runs import configured, recorder_of

NAMES = ("gripper", "valve", "arm")


class Failing(Reach):
    """Its 100th step raises: the second rollout."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 100:
            raise RuntimeError("the simulator is gone")
        return super().step(action)


def weights(algorithm):
    return algorithm.get_module().get_state()


def test_a_run_goes_from_build_to_stop(runs):
    algorithm, before = runs.train(configured(names=NAMES, serve={"verbose": 1, "experiment": "grasping"}))
    assert before.run_state is RunState.RUNNING
    assert (before.run.run_id, before.run.algorithm, before.run.environment) == ("test", "PPO", "Reach")
    assert (before.run.experiment, before.run.seed) == ("grasping", "1")
    assert before.environment_steps == 64
    assert before.episodes > 5
    assert 0 < before.episode_return < 30
    assert before.tamiyo.policy_loss is not None
    recorder = recorder_of(algorithm)
    runs.stop()
    assert recorder.snapshot().run_state is RunState.COMPLETED


def test_a_run_whose_training_raised_has_failed(runs):
    algorithm = runs.build(configured(Failing))
    algorithm.train()
    with pytest.raises(RuntimeError) as caught:
        algorithm.train()
    assert "simulator is gone" in str(caught.value.__cause__)
    recorder = recorder_of(algorithm)
    assert recorder.snapshot().run_state is RunState.RUNNING
    runs.stop()
    assert recorder.snapshot().run_state is RunState.FAILED


def test_every_update_of_an_iteration_counts(runs):
    config = configured(names=NAMES).reporting(min_sample_timesteps_per_iteration=192)
    _, snapshot = runs.train(config)
    assert snapshot.tamiyo.updates == 3
    assert snapshot.environment_steps == 192
    assert snapshot.tamiyo.readings["arm"].entropy is not None


def test_the_heads_are_in_the_results_of_rllib(runs):
    algorithm = runs.build(configured(names=NAMES))
    found = algorithm.train()["learners"]["default_policy"]
    shown = recorder_of(algorithm).snapshot().tamiyo.readings["arm"]
    assert found["heads"]["arm"]["entropy"] == shown.entropy
    assert found["heads"]["arm"]["normalized_entropy"] == shown.normalized
    assert "rl_policy_exporter" not in found


def test_the_heads_can_be_kept_out_of_the_results(runs):
    config = configured()
    config.training(learner_config_dict={"log_heads": False})
    algorithm = runs.build(config)
    assert "heads" not in algorithm.train()["learners"]["default_policy"]
    assert recorder_of(algorithm).snapshot().tamiyo.updates == 1


def test_a_recorder_of_ones_own_takes_the_results(runs):
    algorithm = runs.build(configured(names=NAMES, serve=False))
    assert heads_of(algorithm) == {"gripper": 4, "valve": 2, "arm": 6}
    with serve(heads_of(algorithm), run_id="own", listen="127.0.0.1:0", linger=0) as recorder:
        results = ResultRecorder(algorithm, recorder)
        results.record(algorithm.train())
        results.record({"learners": "nonsense"})
        results.record({})
    assert recorder.snapshot().tamiyo.updates == 1
    assert recorder.snapshot().record_errors == 1


def test_training_is_not_disturbed(runs):
    trained = []
    for learner in (PPOTorchLearner, HeadPPOTorchLearner):
        config = configured(serve=False)
        algorithm = runs.build(config.training(learner_class=learner))
        algorithm.train()
        algorithm.train()
        trained.append(weights(algorithm))
    assert trained[0].keys() == trained[1].keys()
    for name, values in trained[0].items():
        assert np.array_equal(values, trained[1][name]), name


def test_errors_of_telemetry_stay_in_it(runs, monkeypatch):
    def fail(self, *arguments):
        raise RuntimeError("no memory for telemetry")

    algorithm = runs.build(configured(num_epochs=1))
    recorder, steps = recorder_of(algorithm), ("begin", "add", "gradients", "finish", "result")
    for updates, broken in enumerate(steps, start=1):
        before = recorder.snapshot().record_errors
        with monkeypatch.context() as patch:
            patch.setattr(ModuleMeter, broken, fail)
            algorithm.train()
        assert recorder.snapshot().record_errors > before, broken
        assert recorder.snapshot().tamiyo.updates == updates
    before = recorder.snapshot()
    algorithm.train()
    after = recorder.snapshot()
    assert after.record_errors == before.record_errors
    assert after.tamiyo.unmeasured_updates("head_0") == 0


def test_a_restored_algorithm_is_measured(runs, tmp_path):
    algorithm, _ = runs.train(configured(names=NAMES))
    algorithm.save_to_path(tmp_path)
    runs.stop()
    restored = PPO.from_checkpoint(tmp_path)
    runs.append(restored)
    restored.train()
    snapshot = recorder_of(restored).snapshot()
    assert snapshot.environment_steps == 64
    assert snapshot.tamiyo.readings["arm"].entropy is not None


def two_modules(names):
    config = configured(Two, names=names)
    return config.multi_agent(policies={"first", "second"}, policy_mapping_fn=lambda agent, *_, **__: agent)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (lambda: configured(Box), "modules with categorical actions are none; use MultiDiscrete"),
        (lambda: configured(names=("gripper", "arm")), "has 3 heads; give 3 different names"),
        (lambda: configured(names=("a", "a", "b")), "give 3 different names"),
        (lambda: two_modules({"third": ("left", "right")}), r"head_names are of \['third'\]"),
        (lambda: configured().training(learner_class=PPOTorchLearner), "learner_class=HeadPPOTorchLearner"),
        (lambda: configured(serve={"thresholds": {"leg": (0.5, 0.2)}}), "leg"),
    ],
)
def test_what_does_not_fit_is_one_line_before_training(runs, config, said):
    with pytest.raises(ValueError, match=said) as caught:
        runs.build(config())
    assert "\n" not in str(caught.value)


def test_an_address_that_is_taken_stops_the_build(runs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=address):
            runs.build(configured(serve={"listen": address}))
