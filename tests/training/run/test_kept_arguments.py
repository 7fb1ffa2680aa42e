"""Arguments of an environment, from a run over its checkpoint to its replay."""

from datetime import date

import gymnasium
import pytest

from rl_training.run.cli import main
from tests.support.replays import TRAIN, play, played
from tests.support.reporting_environment import Reporting

NAME = "rl-test/Kept-v0"
RUN = [
    *TRAIN,
    "--env",
    NAME,
    "--num-envs",
    "2",
    "--rollout-steps",
    "4",
    "--updates",
    "1",
    "--precision",
    "bfloat16",
]


@pytest.fixture
def given():
    """The arguments that each environment was made with."""
    found = []

    class Kept(Reporting):
        def __init__(self, **arguments):
            super().__init__()
            found.append(arguments)

    gymnasium.register(NAME, Kept)
    yield found
    gymnasium.registry.pop(NAME)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--env-arg", "x=(4,4)", "--env-arg", "y={1,2}"], {"x": (4, 4), "y": {1, 2}}),
        (["--env-arg", "x={1: {'!literal': b'a'}}", "--env-arg", "y=1j"], {"x": {1: {"!literal": b"a"}}, "y": 1j}),
        (["--config", "start.yml"], {"start": [date(2026, 1, 1)]}),
    ],
)  # fmt: skip
def test_a_replay_gives_the_environment_what_the_run_gave_it(
    options, arguments, given, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.yml").write_text("environment: {start: [2026-01-01]}")
    assert main([*RUN, *options, "--checkpoint", "state"]) == 0
    given.clear()
    played(capsys, tmp_path / "state")
    assert given
    assert all(found == arguments for found in given)


def test_an_argument_that_no_checkpoint_can_hold_is_asked_for_by_name(given, tmp_path, capsys):
    (tmp_path / "odd.yml").write_text("environment: {size: 3, x: !!pairs [a: 2026-01-01]}")
    state = tmp_path / "state"
    assert main([*RUN, "--config", str(tmp_path / "odd.yml"), "--checkpoint", str(state)]) == 0
    capsys.readouterr()
    given.clear()
    assert play(state) == 2
    assert capsys.readouterr().err == (
        f"rl-train play: error: checkpoint {state}/checkpoint.pt does not say the argument 'x' of its environment, "
        "which no checkpoint can hold; give --env-arg x=VALUE\n"
    )
    played(capsys, state, "--env-arg", "x=[]")
    assert given[0] == {"size": 3, "x": []}
