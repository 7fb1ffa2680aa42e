"""``rl-train play`` on checkpoints that a test has, or that it changes."""

import torch

from rl_training.run.checkpoint_file import read_state, write_state
from rl_training.run.cli import main

TRAIN = ["--listen", "127.0.0.1:0", "--linger", "0", "--quiet", "--hidden", "8"]


def play(folder, *options):
    return main(["play", "--checkpoint", str(folder), *options])


def played(capsys, folder, *options):
    """The lines that it prints."""
    assert play(folder, *options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def changed(folder, target, **settings):
    """A copy of the newest checkpoint with another state; None leaves a key out."""
    state = {**read_state(folder / "checkpoint.pt", torch.device("cpu")), **settings}
    target.mkdir(exist_ok=True)
    write_state(target / "checkpoint.pt", {key: value for key, value in state.items() if value is not None})
    return target
