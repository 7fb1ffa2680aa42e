"""``rl-train play``: a trained policy is replayed as it was trained, and its architecture is told step by step."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from rl_training.action_space import HEADS, Operation
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.heads.environment import HeadsEnv
from rl_training.policy.acting import sample_actions
from rl_training.policy.distributions import MaskedCategorical
from rl_training.run.checkpoint import load
from rl_training.run.cli import main
from tests.support.playing import SMALL
from tests.support.replays import TRAIN, changed, play, played
from tests.support.reporting_environment import NAME, Reporting

GROWING = [f"--env-arg={key}={value}" for key, value in {**SMALL, "workers": 0}.items()]


@pytest.mark.slow
def test_a_policy_that_grows_a_network_tells_each_step_and_draws_what_it_grew(tmp_path, capfd):
    run = ["--num-envs", "4", "--rollout-steps", "12", "--updates", "2", *GROWING]
    assert main([*TRAIN, *run, "--checkpoint", str(tmp_path), "--run-id", "grower"]) == 0
    capfd.readouterr()
    command = [sys.executable, "-m", "rl_training", "play", "--checkpoint", str(tmp_path), "--episodes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    head, *lines = done.stdout.splitlines()
    assert re.fullmatch(
        r".*checkpoint\.pt: grower, growing-network, update 2, mean return then \S+; sampled actions", head
    )
    steps = [line for line in lines if re.match(r"\d/6  accuracy ", line)]
    assert [line[:3] for line in steps] == [f"{step}/6" for step in range(1, 7)] * 2
    assert all(any(operation.name in line for operation in Operation) for line in steps)
    drawing = lines[6:15]
    assert drawing[0] == "image"
    assert [line.split()[1] for line in drawing if "├─" in line] == ["R0C0", "R0C1", "R0C2"]
    accuracy = re.search(r"accuracy +(\S+)%", steps[5])[1]
    assert f"validation accuracy {accuracy}%" in drawing[-1]
    rewards = [float(re.search(r"reward (\S+)", line)[1]) for line in steps[:6]]
    total = re.fullmatch(r"episode 1  length 6  return (\S+)", lines[15])[1]
    assert float(total) == pytest.approx(sum(rewards), abs=0.004)
    assert lines[-1].startswith("2 episodes  mean return ")
    silent = played(capfd, tmp_path, "--no-render")
    assert not any("reward" in line for line in silent)
    assert silent[1:10] == drawing, "the same episode, without its steps"


def test_a_replay_has_no_minibatches_that_its_environment_could_be_too_few_for(trained, tmp_path, capsys):
    kept = {"run": {"env": NAME}, "learning": {"hidden": 8, "minibatches": 99}}
    assert len(played(capsys, changed(trained["reporting"], tmp_path, settings=json.dumps(kept)))) == 3


def test_an_episode_is_the_same_for_a_seed_and_another_for_others(trained, capsys):
    two = played(capsys, trained["heads"], "--episodes", "2")
    assert re.fullmatch(r"episode 1  length 16  return \d+\.\d{3}", two[1])
    assert played(capsys, trained["heads"], "--episodes", "2") == two
    assert played(capsys, trained["heads"])[1] == two[1]
    assert two[1].replace("episode 1", "episode 2") != two[2]
    assert played(capsys, trained["heads"], "--seed", "1")[1] != two[1]


def greedy_episode(folder):
    """Return and logits of the first episode under the most probable actions, step by step and head by head."""
    agent = PPOAgent(HEADS, 8, PPOConfig(hidden=8))
    load(folder, agent)
    environment = HeadsEnv(noise=4, consult="table")
    seed = int(np.random.SeedSequence([0, 0]).generate_state(2, np.uint32)[0]) >> 1
    observation, _ = environment.reset(seed=seed)
    state, total, over, seen = agent.network.initial_state(1), 0.0, False, []
    while not over:
        masks = torch.as_tensor(environment.action_masks())
        with torch.no_grad():
            logits, _, state = agent.network.step(torch.as_tensor(observation)[None], state)
        seen.append(logits)
        layout = agent.network.layout
        operation = MaskedCategorical(logits, masks[:1], layout).log_probs[0, : HEADS[0].choices].argmax()
        chosen = MaskedCategorical(logits, masks[operation][None], layout).log_probs[0]
        action = [int(chosen[own].argmax()) for own in layout.slices]
        observation, reward, _, over, _ = environment.step(np.array(action))
        total += reward
    return total, torch.cat(seen)


def test_greedy_takes_the_most_probable_action_of_each_head(trained, capsys, monkeypatch):
    logits = []

    def recorded(given, *others):
        logits.append(given)
        return sample_actions(given, *others)

    monkeypatch.setattr("rl_training.run.player.sample_actions", recorded)
    head, line = played(capsys, trained["heads"], "--greedy")
    assert head.endswith("; the most probable actions")
    total, expected = greedy_episode(trained["heads"])
    assert line == f"episode 1  length 16  return {total:.3f}"
    assert torch.equal(torch.cat(logits), expected), "what the policy remembers is part of what it is"
    assert line != played(capsys, trained["heads"])[1]


def test_any_environment_shows_its_episodes_its_numbers_and_its_own_drawings(trained, capsys):
    head, *lines = played(capsys, trained["reporting"], "--episodes", "4", "--render")
    assert NAME in head
    assert [line for line in lines if line.startswith("episode")] == [
        f"episode {number}  length {length}  return {length}.000"
        for number, length in enumerate(
            [int(line.split()[3]) for line in lines if line.startswith("episode")], 1
        )
    ]
    assert lines[:2] == ["step 1", "step 2"]
    assert sum(line.startswith("copy ") for line in lines) == 4
    assert lines[-1].startswith("4 episodes  mean return ")
    assert not any(line.startswith("step") for line in played(capsys, trained["reporting"]))


def test_numbers_of_an_environment_that_draws_nothing_stand_beside_its_return(trained, capsys, monkeypatch):
    from tests.support.reporting_environment import Reporting

    step = Reporting.step

    def undrawn(self, action):
        *outcome, info = step(self, action)
        info.pop("drawing", None)
        return *outcome, info

    monkeypatch.setattr(Reporting, "step", undrawn)
    line = played(capsys, trained["reporting"], "--env-arg", "bad=true")[-1]
    assert re.fullmatch(r'episode 1  length \d  return \S+  steps \S+  copies_ratio\{copy="\d"\} 1\.000', line)


def test_which_names_a_checkpoint(trained, capsys):
    assert ", update 2, " in played(capsys, trained["reporting"])[0]
    assert ", update 1, " in played(capsys, trained["reporting"], "--which", "1")[0]
    assert "checkpoint-best.pt: " in played(capsys, trained["reporting"], "--which", "best")[0]


def test_what_an_environment_draws_cannot_steer_the_terminal(trained, capsys, monkeypatch):
    from tests.support.reporting_environment import Reporting

    monkeypatch.setattr(Reporting, "render", lambda self: "\x1b[41mred\x1b[0m \x1b[2J\x1b]0;title\x07")
    shown = played(capsys, trained["reporting"], "--render")[1]
    assert shown == "red \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert played(capsys, trained["reporting"], "--render")[1].startswith("\x1b[41mred\x1b[0m ")


def test_ctrl_c_ends_it_without_a_traceback(trained, capsys, monkeypatch):
    from tests.support.reporting_environment import Reporting

    def interrupted(self, action):
        raise KeyboardInterrupt

    monkeypatch.setattr(Reporting, "step", interrupted)
    assert play(trained["reporting"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it(trained):
    command = [sys.executable, "-m", "rl_training", "play", "--checkpoint", str(trained["heads"])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--episodes", "100000"], **pipes) as piped:
        piped.stdout.readline()
        piped.stdout.close()
        assert piped.stderr.read() == b""
        assert piped.wait(timeout=60) == 0


def test_resuming_and_playing_share_a_checkpoint(trained, tmp_path, capsys):
    folder = changed(trained["heads"], tmp_path)
    again = ["--env", "heads", "--num-envs", "4", "--rollout-steps", "64", "--updates", "5", "--resume"]
    arguments = ["--env-arg", "noise=4", "--env-arg", "consult=table"]
    assert main([*TRAIN, *again, *arguments, "--checkpoint", str(folder)]) == 0
    assert ", update 5, " in played(capsys, folder)[0]


def test_a_drawing_may_need_gradients(trained, capsys, monkeypatch):
    def render(self):
        weight = torch.ones(1, requires_grad=True)
        (2 * weight).sum().backward()
        return f"slope {weight.grad.item()}"

    monkeypatch.setattr(Reporting, "render", render)
    assert "slope 2.0" in played(capsys, trained["reporting"], "--render")


@pytest.mark.filterwarnings("ignore:.*The reward is a NaN value")
@pytest.mark.parametrize("copies", [{2}, {0, 1, 2}], ids=["some", "all"])
def test_a_return_that_is_not_finite_stays_out_of_the_mean(copies, trained, capsys, monkeypatch):
    usual = Reporting.step

    def step(self, action):
        observation, reward, *rest = usual(self, action)
        return observation, math.nan if self.copy in copies else reward, *rest

    monkeypatch.setattr(Reporting, "step", step)
    lines = played(capsys, trained["reporting"], "--episodes", "8")
    returns = [float(line.split("return ")[1].split()[0]) for line in lines if line.startswith("episode ")]
    finite = [each for each in returns if math.isfinite(each)]
    assert bool(finite) == (copies == {2})
    assert len(finite) < 8
    of_finite = f"({min(finite):.3f} to {max(finite):.3f}, {8 - len(finite)} not finite)" if finite else ""
    assert (of_finite or "no return is finite") in lines[-1]
    assert "NaN" not in lines[-1]
