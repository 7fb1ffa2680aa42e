"""Checkpoints: whole or not at all, and a run that goes on as if nothing had happened."""

import json
from statistics import median
from typing import ClassVar

import pytest
import torch

from rl_exporter import RunInfo, SanctumAggregator
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.checkpoint import load, save
from rl_training.run.checkpoint_file import read_state, write_state
from rl_training.run.checkpoint_folder import CheckpointError
from rl_training.run.cli import main
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from tests.support.former_checkpoints import former

FIXED = [
    "--env",
    "heads",
    "--num-envs",
    "2",
    "--rollout-steps",
    "16",
    "--listen",
    "127.0.0.1:0",
    "--linger",
    "0",
]


def setup(hidden=64, critic="own", **arguments):
    environment = make_environment("heads", 2, arguments)
    config = PPOConfig(hidden=hidden, critic=critic)
    agent = PPOAgent(environment.heads, environment.observation_size, config)
    collector = RolloutCollector(environment, agent.network, seed=0, device=agent.device)
    return agent, collector, SanctumAggregator(agent.heads, RunInfo("run"))


@pytest.fixture
def saved(tmp_path):
    agent, collector, aggregator = setup()
    emitter = Emitter([aggregator], aggregator.count_record_error)
    train(agent, collector, emitter, Limits(3, None), lambda: False)
    save(tmp_path, agent, collector, aggregator.snapshot())
    return tmp_path, agent, collector, aggregator


def test_what_is_written_is_read_back(saved):
    folder, agent, collector, aggregator = saved
    other, its_collector, _ = setup()
    checkpoint = load(folder, other)
    other.restore(checkpoint.agent)
    its_collector.restore(checkpoint.progress)
    for one, again in zip(agent.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(one, again)
    assert (its_collector.episodes == collector.episodes).all()
    assert its_collector.episode_return == collector.episode_return
    former = checkpoint.snapshot
    assert former == aggregator.snapshot()
    assert former.tamiyo.memories == aggregator.snapshot().tamiyo.memories != ()
    assert former.tamiyo.updates == 3
    for each in (agent, other):
        each.anneal(0.5)
    for _ in range(2):
        rollout = collector.collect(16)
        agent._update_network(rollout)
        other._update_network(rollout)
    for one, again in zip(agent.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(one, again)


def test_the_learning_rate_is_the_configured_one(saved):
    folder, agent, *_ = saved
    other = PPOAgent(agent.heads, agent.network.observation_size, PPOConfig(learning_rate=0.5))
    other.restore(load(folder, other).agent)
    assert other._optimizer.param_groups[0]["lr"] == 0.5


def test_a_checkpoint_of_the_former_format_goes_on_with_a_shared_critic(tmp_path):
    agent, collector, aggregator = setup(critic="shared")
    agent._update_network(collector.collect(16))
    save(tmp_path, agent, collector, aggregator.snapshot())
    path = tmp_path / "checkpoint.pt"
    write_state(path, former(read_state(path, torch.device("cpu")), 2))
    other, *_ = setup(critic="shared")
    other.restore(load(tmp_path, other).agent)
    for name, value in agent.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    own, *_ = setup()
    with pytest.raises(CheckpointError, match="of another critic: shared, not own; give the options"):
        load(tmp_path, own)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_that_is_cut_off_is_refused(saved, share):
    folder, agent, *_ = saved
    path = folder / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="cut off or no checkpoint of rl-train"):
        load(folder, agent)


def test_another_file_is_refused_and_nothing_in_it_is_run(saved):
    folder, agent, *_ = saved
    torch.save({"format": Mischief()}, folder / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of rl-train"):
        load(folder, agent)
    assert Mischief.done == []


class Mischief:
    done: ClassVar = []

    def __reduce__(self):
        return (self.done.append, ("harm",))


def test_a_failed_write_leaves_the_former_checkpoint(saved, monkeypatch):
    folder, agent, collector, aggregator = saved
    before = (folder / "checkpoint.pt").read_bytes()

    def full(state, file):
        file.write(b"part of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(folder, agent, collector, aggregator.snapshot())
    assert (folder / "checkpoint.pt").read_bytes() == before


def refused(capsys, *arguments):
    assert main([*FIXED, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_line(tmp_path, capsys):
    state = tmp_path / "state"
    assert "--resume needs the folder" in refused(capsys, "--resume")
    assert "there is no checkpoint" in refused(capsys, "--resume", "--checkpoint", str(state))
    (tmp_path / "file").write_text("")
    assert "give a folder" in refused(capsys, "--checkpoint", str(tmp_path / "file"))
    assert "give a folder that can be written" in refused(capsys, "--checkpoint", "/proc/sys"), "where it lists"
    assert main([*FIXED, "--checkpoint", str(state), "--updates", "1", "--quiet"]) == 0
    assert "holds the state of a run; go on with --resume" in refused(capsys, "--checkpoint", str(state))
    resume = ("--checkpoint", str(state), "--resume")
    assert "of another number of hidden units: 64, not 32" in refused(capsys, *resume, "--hidden", "32")
    assert "of another observation size: 4, not 9" in refused(capsys, *resume, "--env-arg", "noise=5")
    other = refused(capsys, *resume, "--env", "CartPole-v1")
    assert "of another action space: op:6 slot:3" in other
    assert "not action:2" in other
    (state / "checkpoint.pt").write_bytes(b"")
    assert "cut off" in refused(capsys, *resume)


def test_a_run_goes_on_with_other_multipliers_thresholds_and_references(tmp_path, capsys):
    """As the runbook of a collapse recommends; names and sizes of the heads are the same."""
    state, log = tmp_path / "state", tmp_path / "log"
    command = (*FIXED, "--quiet", "--checkpoint", str(state))
    assert main([*command, "--updates", "2", "--threshold", "op=0.6,0.3"]) == 0
    other = ("--entropy-multiplier", "op=2", "--threshold", "slot=0.4,0.2", "--reference", "tempo=0.7")
    assert main([*command, "--resume", "--updates", "3", *other, "--log-json", str(log)]) == 0
    assert capsys.readouterr().err == ""
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["update"] == 3
    thresholds = line["rl_policy_head_entropy_threshold_ratio"]
    assert thresholds["slot"] == {"warning": 0.4, "critical": 0.2}
    assert thresholds["op"] == {"warning": 0.5, "critical": 0.25}
    assert line["rl_policy_head_entropy_coefficient"]["op"] == 2.0
    assert line["rl_policy_head_entropy_reference_nats"]["tempo"] == 0.7


def test_the_start_of_a_head_is_that_of_the_run_although_it_was_preempted(tmp_path):
    log = tmp_path / "log"
    command = [*FIXED, "--quiet", "--checkpoint", str(tmp_path / "state"), "--log-json", str(log)]
    assert main([*command, "--updates", "7"]) == 0
    assert main([*command, "--resume", "--updates", "11", "--reference", "op=start"]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    entropies = [line["rl_policy_head_entropy_nats"]["op"] for line in lines]
    assert lines[-1]["rl_policy_head_entropy_reference_nats"]["op"] == median(entropies[:10])
    assert "op" not in lines[8]["rl_policy_head_entropy_reference_nats"]


def test_a_checkpoint_of_a_version_without_memories_goes_on(saved):
    folder, agent, _, aggregator = saved
    path = folder / "checkpoint.pt"
    state = read_state(path, torch.device("cpu"))
    del state["memories"]
    write_state(path, state)
    assert load(folder, agent).snapshot == aggregator.snapshot()


def test_sums_and_scale_of_past_advantages_go_on(saved):
    folder, agent, *_ = saved
    other, *_ = setup()
    other.restore(load(folder, other).agent)
    for found, expected in zip(other._advantage_sums, agent._advantage_sums, strict=True):
        assert torch.equal(found, expected)
    assert agent._advantage_sums.steps.sum() > 0
    assert other._advantage_scale.recent.item() == agent._advantage_scale.recent.item() > 0
    former = {name: value for name, value in agent.state().items() if not name.startswith("advantage_")}
    setup()[0].restore(former)  # a checkpoint of a version without them


def test_a_resumed_run_counts_on(tmp_path, capsys):
    log, state = tmp_path / "log", tmp_path / "state"
    run = [*FIXED, "--checkpoint", str(state), "--log-json", str(log), "--quiet"]
    assert main([*run, "--episodes", "3", "--run-id", "long"]) == 0
    assert main([*run, "--episodes", "5", "--resume"]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["rl_training_episodes_total"] for line in lines] == [2, 4, 6, 8, 10]
    assert [line["rl_training_environment_steps_total"] for line in lines] == [32, 64, 96, 128, 160]
    assert main([*run, "--updates", "5", "--resume"]) == 0
    assert len(log.read_text().splitlines()) == 5
