"""Checkpoints that tests replay."""

import pytest

from rl_training.run.cli import main
from tests.support.replays import TRAIN
from tests.support.reporting_environment import NAME, register


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
