"""What ``rl-train play`` refuses in one line: options, folders, and checkpoints that somebody else made."""

import json
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rl_training.run.cli import main
from tests.support.replays import changed, play, played
from tests.support.reporting_environment import NAME, Reporting


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
            "error: reset() raised while rendering: OSError: No available video device; "
            "leave --render out, or correct the environment"
        )
    finally:
        gymnasium.registry.pop("rl-test/Windowed-v0")


class Levels(Reporting):
    """Loads a level for each episode; the second one is not there."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        Levels.resets += 1
        if Levels.resets > 3:  # the first trial, and an episode
            raise KeyError("level_7.map")
        return super().reset(seed=seed, options=options)


def test_a_mistake_of_reset_is_not_called_one_of_rendering(trained, capsys, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "rl-test/Levels-v0", EnvSpec("rl-test/Levels-v0", Levels))
    line = refused(capsys, trained["reporting"], "--env", "rl-test/Levels-v0", "--render", "--episodes", "9")
    assert line == (
        "rl-train play: error: reset() raised while rendering: KeyError: 'level_7.map'; "
        "leave --render out, or correct the environment"
    )


def test_an_error_of_render_is_one_line_with_its_type(trained, capsys, monkeypatch):
    monkeypatch.setattr(Reporting, "render", lambda _: {}["frame"])
    line = refused(capsys, trained["reporting"], "--render")
    assert "error: render() raised KeyError: 'frame'; leave --render out" in line


def test_a_policy_that_no_memory_holds_is_one_line(trained, tmp_path, capsys):
    kept = {"run": {"env": NAME}, "learning": {"hidden": 10**6}}
    line = refused(capsys, changed(trained["reporting"], tmp_path, settings=json.dumps(kept)))
    assert line.endswith(
        "cannot allocate a policy of --hidden 1000000 on cpu; replay the checkpoint where there is more memory"
    )


def test_an_environment_that_leaves_the_program_is_one_line(trained, capsys, monkeypatch):
    monkeypatch.setattr(Reporting, "step", lambda *_: sys.exit(0))
    line = refused(capsys, trained["reporting"])
    assert line == "rl-train play: error: the environment called sys.exit(0); correct it"
