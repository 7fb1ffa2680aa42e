"""Whatever happens in a measurement of skrl: the training and the agent are as they were without it."""

import copy
import logging
import pickle
import subprocess
import sys

import pytest
import torch
from gymnasium import spaces
from skrl.agents.torch.sac import SAC
from skrl.models.torch import GaussianMixin, Model

from rl_exporter import RunState, serve
from rl_exporter.integrations.meter.update import MeteredUpdate
from rl_exporter.integrations.skrl import action_heads, epochs, measure, measurement
from tests.support.skrl_reach import ROLLOUTS, Value, environment, make_agent, train

SIZES = {"head_0": 4, "head_1": 2, "head_2": 6}


@pytest.fixture
def recorder():
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as found:
        yield found


def weights(agent):
    return [parameter.detach().clone() for model in agent.models.values() for parameter in model.parameters()]


def assert_untouched(agent):
    assert "act" not in vars(agent.policy)
    assert not {"sample", "sample_all"} & set(vars(agent.memory))
    assert "unscale_" not in vars(agent.scaler)
    assert not agent.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("clip", [0.5, 0.0])
def test_the_weights_stay_the_same(recorder, clip):
    trained = []
    for measures in (True, False):
        env = environment()
        agent = make_agent(env, grad_norm_clip=clip)
        if measures:
            measure(agent, recorder, gradients=agent.policy.layer)
        train(env, agent)
        assert_untouched(agent)
        trained.append(weights(agent))
    assert recorder.snapshot().tamiyo.updates == 1
    assert all(map(torch.equal, *trained))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MeteredUpdate, "add"),
        (MeteredUpdate, "end_epoch"),
        (MeteredUpdate, "result"),
        (MeteredUpdate, "add_gradients"),
        (epochs.SampledMinibatches, "sampled"),
        (epochs.SampledMinibatches, "of"),
        (measurement, "_logits"),
        (measurement, "add_rollout"),
        (measurement, "losses"),
        (measurement.EpisodeHistory, "means"),
        (measurement.Measurement, "_listen"),
        (measurement.DeviceMeans, "take"),
    ],
)
def test_an_error_in_telemetry_never_reaches_the_training(recorder, monkeypatch, caplog, owner, name):
    def explode(*arguments):
        raise ZeroDivisionError(name)

    monkeypatch.setattr(owner, name, explode)
    env = environment()
    agent = make_agent(env)
    with measure(agent, recorder, gradients=agent.policy.layer):
        train(env, agent, 2 * ROLLOUTS)
    snapshot = recorder.snapshot()
    assert snapshot.record_errors >= 2
    # Whatever broke costs its own numbers: an update is recorded with the others.
    assert snapshot.tamiyo.updates == 2
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 2
    assert name in caplog.text
    assert_untouched(agent)


def test_an_error_of_the_agent_leaves_nothing_behind(recorder, monkeypatch):
    env = environment()
    agent = make_agent(env)
    measure(agent, recorder)

    def explode(*arguments, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(agent.optimizer, "step", explode)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(env, agent)
    assert_untouched(agent)
    assert recorder.snapshot().tamiyo.updates == 0


def test_the_run_ends_with_its_block():
    env = environment()
    agent = make_agent(env)
    with serve(action_heads(env), listen="127.0.0.1:0", linger=0) as recorder, measure(agent, recorder):
        train(env, agent)
    assert recorder.snapshot().run_state is RunState.COMPLETED
    assert not {"update", "write_tracking_data"} & set(vars(agent))
    train(env, agent)
    assert recorder.snapshot().tamiyo.updates == 1


def test_a_copy_of_the_agent_measures_nothing(recorder):
    env = environment()
    agent = make_agent(env)
    measure(agent, recorder)
    for one in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        train(env, one)
        assert one.update.__func__ is type(agent).update
    assert recorder.snapshot().tamiyo.updates == 0
    train(env, agent)
    assert recorder.snapshot().tamiyo.updates == 1


def test_two_measurements_measure_the_same(recorder):
    env = environment()
    agent = make_agent(env)
    with serve(SIZES, listen="127.0.0.1:0", linger=0) as other:
        first, second = (
            measure(agent, recorder, gradients=agent.policy.layer),
            measure(agent, other, gradients=agent.policy.layer),
        )
        train(env, agent)
        readings = [one.snapshot().tamiyo.readings["head_2"] for one in (recorder, other)]
        first.remove()
        train(env, agent)
        assert [one.snapshot().tamiyo.updates for one in (recorder, other)] == [1, 2]
        second.remove()
    assert readings[0].entropy == readings[1].entropy > 0.0
    assert readings[0].gradient_norm == readings[1].gradient_norm > 0.0
    assert "update" not in vars(agent)
    assert_untouched(agent)


def test_nothing_kept_holds_the_graph(recorder, monkeypatch):
    kept = []
    add = measurement.Minibatch

    def keeping(**fields):
        kept.extend(value for value in fields.values() if value is not None)
        return add(**fields)

    monkeypatch.setattr(measurement, "Minibatch", keeping)
    env = environment()
    agent = make_agent(env)
    with measure(agent, recorder):
        train(env, agent)
    assert len(kept) == 6 * 5
    assert not any(tensor.requires_grad for tensor in kept)


def test_heads_that_do_not_fit_are_refused_before_training():
    agent = make_agent(environment())
    with serve({"arm": 5}, listen="127.0.0.1:0", linger=0) as recorder:
        reason = r"heads were declared with \[5\] choices, the action space has \[4, 2, 6\]"
        with pytest.raises(ValueError, match=reason):
            measure(agent, recorder)
    assert "update" not in vars(agent)


def test_an_agent_without_memory_is_refused(recorder):
    agent = make_agent(environment())
    agent.memory = None
    with pytest.raises(ValueError, match="the agent has no memory, so it does not learn; give it one"):
        measure(agent, recorder)


def test_other_policies_and_agents_are_refused(recorder):
    class Continuous(GaussianMixin, Model):
        def __init__(self):
            Model.__init__(self, observation_space=spaces.Box(0, 1, (4,)), action_space=spaces.Box(0, 1, (1,)))
            GaussianMixin.__init__(self)

        def compute(self, inputs, role):
            raise NotImplementedError

    agent = make_agent(environment())
    agent.policy = Continuous()
    with pytest.raises(TypeError, match="the policy Continuous is neither a CategoricalMixin nor a Multi"):
        measure(agent, recorder)
    other = SAC(models={"policy": Value(environment())}, device="cpu")
    with pytest.raises(TypeError, match="measure takes PPO, PPO_RNN and A2C agents, not SAC"):
        measure(other, recorder)


@pytest.mark.slow
def test_without_the_library_the_import_says_what_to_install():
    code = "import sys; sys.modules['skrl'] = None; import rl_exporter.integrations.skrl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith(
        'ImportError: rl_exporter.integrations.skrl needs skrl; pip install "skrl[torch]"\n'
    )
