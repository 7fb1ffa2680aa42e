"""``rl-train play``: a trained policy is replayed as it was trained, and its architecture is told step by step."""

import json
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_training.action_space import HEADS, Operation
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.heads.environment import HeadsEnv
from rl_training.policy.acting import sample_actions
from rl_training.policy.distributions import MaskedCategorical
from rl_training.run.checkpoint import load
from rl_training.run.checkpoint_file import read_state, write_state
from rl_training.run.cli import main
from tests.support.playing import SMALL
from tests.support.reporting_environment import NAME, register

TRAIN = ["--listen", "127.0.0.1:0", "--linger", "0", "--quiet", "--hidden", "8"]
GROWING = [f"--env-arg={key}={value}" for key, value in {**SMALL, "workers": 0}.items()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of checkpoints, by environment: real runs, but short."""
    folder = tmp_path_factory.mktemp("played")

    def run(name, *options):
        assert main([*TRAIN, *options, "--checkpoint", str(folder / name)]) == 0
        return folder / name

    register()
    return {
        "heads": run("heads", "--env", "heads", "--num-envs", "4", "--rollout-steps", "64", "--updates", "4",
                     "--env-arg", "noise=4", "--env-arg", "consult=table", "--learning-rate", "3e-3"),
        "reporting": run("reporting", "--env", NAME, "--num-envs", "3", "--updates", "2", "--keep-checkpoints", "2"),
    }  # fmt: skip


def play(folder, *options):
    return main(["play", "--checkpoint", str(folder), *options])


def played(capsys, folder, *options):
    """The lines that it prints."""
    assert play(folder, *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


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


def refused(capsys, folder, *options):
    """The one line that says why."""
    try:
        status = play(folder, *options)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("rl-train play: error: ")
    return line


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--which", "9"], "--which takes best, 2, 1"),
        (["--which", "last"], "'last' names no checkpoint; give best, or the number of its update"),
        (["--episodes", "0"], "give a whole number >= 1"),
        (["--seed", "-1"], "give a whole number >= 0"),
        (["--device", "tpu9"], "give --device cpu"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--env", "NoSuch-v0"], "environment 'NoSuch-v0' cannot be made"),
        (["--env", "Pendulum-v1"], "the policy needs MultiDiscrete or Discrete"),
        (["--env", "heads"], "is of another action space: action:2, not op:6"),
        (["--env", "CartPole-v1"], "is of another observation size: 1, not 4"),
        (["--env-arg", "height=3"], "unexpected keyword argument 'height'"),
        (["--env-arg", "height"], "'height' is not KEY=VALUE"),
        (["--env", "heads", "--env-arg", "noize=3"], "unknown key 'environment.noize'"),
        (["--env", "heads", "--render"], "environment 'heads' cannot be rendered; leave --render out"),
    ],
)
def test_bad_input_is_one_line(options, reason, trained, capsys):
    assert reason in refused(capsys, trained["reporting"], *options)


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        line = refused(capsys, folder)
        assert "there is no checkpoint" in line
        assert line.endswith("give the folder that a run had as its --checkpoint")
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(capsys, tmp_path / "file")
    assert "required: --checkpoint" in refused_without_folder(capsys)


def refused_without_folder(capsys):
    with pytest.raises(SystemExit):
        main(["play"])
    return capsys.readouterr().err


def changed(folder, target, **settings):
    """A copy of the newest checkpoint with another state; None leaves a key out."""
    state = {**read_state(folder / "checkpoint.pt", torch.device("cpu")), **settings}
    target.mkdir(exist_ok=True)
    write_state(target / "checkpoint.pt", {key: value for key, value in state.items() if value is not None})
    return target


def test_a_checkpoint_of_a_former_version_needs_the_environment(trained, tmp_path, capsys):
    former = changed(trained["heads"], tmp_path, settings=None)
    line = refused(capsys, former)
    assert "does not say its environment: a former version wrote it; give --env NAME" in line
    with_it = played(capsys, former, "--env", "heads", "--env-arg", "noise=4", "--env-arg", "consult=table")
    assert with_it[1:] == played(capsys, trained["heads"])[1:]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"run": {"env": "evil:Id-v0"}}', "'evil:Id-v0', which imports a module; give --env evil:Id-v0 where you trust it"),
        ('{"run": {"env": 7}}', "has settings that this version does not take: run.env: 7 is not possible"),
        ('{"learning": {"tomorrow": 1}}', "unknown key 'learning.tomorrow'"),
        ('{"environment": [1]}', "holds [1] where keys and values belong"),
        ("[1, 2]", "has settings that this version does not take"),
        ("{", "does not take: no JSON of settings"),
        ("[" * 100_000, "does not take: no JSON of settings"),
        ("!!python/object/apply:os.system ['false']", "does not take: no JSON of settings"),
    ],
)  # fmt: skip
def test_settings_that_somebody_else_wrote_are_one_line_and_run_nothing(
    text, reason, trained, tmp_path, capsys
):
    assert reason in refused(capsys, changed(trained["reporting"], tmp_path, settings=text))
    assert "evil" not in sys.modules


def test_a_module_that_is_named_on_the_command_line_is_imported(trained, tmp_path, capsys):
    name = "tests.support.reporting_environment:" + NAME
    kept = {"run": {"env": name}, "learning": {"hidden": 8}}
    folder = changed(trained["reporting"], tmp_path, settings=json.dumps(kept))
    assert "which imports a module" in refused(capsys, folder)
    assert len(played(capsys, folder, "--env", name)) == 3


def test_a_damaged_checkpoint_is_one_line(trained, tmp_path, capsys):
    content = bytearray((trained["reporting"] / "checkpoint.pt").read_bytes())
    content[-100] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(content)
    line = refused(capsys, tmp_path)
    assert "its checksum does not fit; give another folder" in line


class Windowed(gymnasium.Env):
    """Opens a window, where there is a display."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012 - Gymnasium's own declaration
    observation_space, action_space = spaces.Box(0, 10, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.render_mode == "human":
            raise OSError("No available\nvideo device")
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, True, False, {}


def test_a_window_without_a_display_is_one_line(trained, capsys):
    gymnasium.register("rl-test/Windowed-v0", Windowed)
    folder = trained["reporting"]
    try:
        assert len(played(capsys, folder, "--env", "rl-test/Windowed-v0")) == 2
        assert refused(capsys, folder, "--env", "rl-test/Windowed-v0", "--render").endswith(
            "the environment cannot be rendered here: No available video device; leave --render out"
        )
    finally:
        gymnasium.registry.pop("rl-test/Windowed-v0")


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
