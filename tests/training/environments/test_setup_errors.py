"""An environment that cannot be made is one line and status 2, whatever its constructor or its module raises."""

import sys

import numpy as np
import pytest
from gymnasium import spaces

from rl_training.run.cli import main
from tests.support.replays import TRAIN, play
from tests.support.short_environment import Short, register

RAISED = {
    "AssertionError: size must be above 5": AssertionError("size must be\nabove 5"),
    "AssertionError": AssertionError(),
    "FileNotFoundError: [Errno 2] No such file: 'level.txt'": FileNotFoundError(2, "No such file", "level.txt"),
    "KeyError: 'level'": KeyError("level"),
    "RuntimeError: no licence": RuntimeError("no licence"),
    "NotImplementedError": NotImplementedError(),
    "StopIteration": StopIteration(),
    "SystemExit: no GPU": SystemExit("no GPU"),
}

MODULES = {
    "x = undefined": "NameError: name 'undefined' is not defined",
    "def f(:": "SyntaxError: invalid syntax (",
    "raise OSError('no device')": "OSError: no device",
    "import sys; sys.exit(0)": "SystemExit: 0",
    "import nowhere_to_be_found": "ModuleNotFoundError: ",
}


def refused(status, capsys):
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    return line


def raising(error):
    def make():
        raise error

    return register(make)


@pytest.mark.parametrize("said", RAISED)
def test_a_constructor_that_raises(said, capsys):
    name = raising(RAISED[said])
    line = refused(main([*TRAIN, "--env", name]), capsys)
    assert line == (
        f"rl-train: error: environment {name!r} cannot be made: {said}; correct the environment or its --env-arg"
    )


@pytest.mark.parametrize("said", RAISED)
def test_a_constructor_that_raises_in_a_replay(said, replayed, capsys):
    line = refused(play(replayed, "--env", raising(RAISED[said])), capsys)
    assert line.startswith("rl-train play: error: environment ")
    assert f"cannot be made: {said}; correct the environment" in line


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    assert main([*TRAIN, "--env", register(Short), "--updates", "1", "--checkpoint", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("text", MODULES)
def test_a_module_that_raises(text, replayed, tmp_path, monkeypatch, capsys):
    (tmp_path / "raising_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "raising_module", raising=False)
    option = ("--env", "raising_module:Name-v0")
    for run in (lambda: main([*TRAIN, *option]), lambda: play(replayed, *option)):
        line = refused(run(), capsys)
        assert f"environment 'raising_module:Name-v0' cannot be made: {MODULES[text]}" in line


def test_an_observation_that_cannot_be_flattened_in_a_replay(replayed, capsys):
    class Odd(Short):
        observation_space = None

    assert "cannot be made" in refused(play(replayed, "--env", register(Odd)), capsys)


def broken(self, **_):
    raise RuntimeError("no licence")


FIRST_EPISODES = {
    "reset() raised RuntimeError: no licence": {"reset": broken},
    "reset() or action_masks() raised RuntimeError: no licence": {"action_masks": broken},
    "reset() raised ValueError: ": {"reset": lambda self, **_: ()},
    "action_masks() allows no action of head 'head_1'; allow one": {
        "action_masks": lambda _: [1] * 3 + [0] * 4
    },
    "reset() returned an observation of (2,), flattened; its observation_space declares (3,); make them agree": {
        "reset": lambda self, **_: (np.zeros(2, np.float32), {})
    },
}


@pytest.mark.parametrize("said", FIRST_EPISODES)
def test_an_environment_that_cannot_start_an_episode(said, replayed, capsys):
    """Neither a training nor a replay starts."""
    name = register(type("Odd", (Short,), FIRST_EPISODES[said]))
    for run in (lambda: main([*TRAIN, "--env", name]), lambda: play(replayed, "--env", name)):
        assert f"environment {name!r}: {said}" in refused(run(), capsys)


def test_an_action_space_of_several_lines_is_one(capsys):
    class Wide(Short):
        action_space = spaces.MultiDiscrete([[2, 2], [3, 3]])

    assert main(["--env", register(Wide), "--updates", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "action space MultiDiscrete([[2 2] [3 3]]); the policy needs MultiDiscrete or Discrete, from 0" in line
    )
