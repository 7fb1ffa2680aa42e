"""``--deterministic``: the same seed, the same run, and torch is afterwards as it was before."""

import json
import os

import pytest
import torch

from rl_training.run import app
from rl_training.run.cli import main

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
RUN = ("--env", "heads", "--env-arg", "consult=table", "--num-envs", "8", "--rollout-steps", "16", "--updates", "2",
       "--listen", "127.0.0.1:0", "--linger", "0", "--quiet", "--run-id", "same")  # fmt: skip


def numbers(folder, name, *arguments):
    """What the updates of a run logged, but for times."""
    log = folder / f"{name}.jsonl"
    assert main([*RUN, "--log-json", str(log), *arguments]) == 0
    updates = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: value for key, value in one.items() if "seconds" not in key} for one in updates]


@pytest.fixture
def states(monkeypatch):
    """The mode and the workspace at the first use of the device, and as the training begins."""
    found = []

    def noting(function):
        def noted(*arguments, **named):
            found.append((torch.are_deterministic_algorithms_enabled(), os.environ.get(WORKSPACE)))
            return function(*arguments, **named)

        return noted

    monkeypatch.setattr(app, "usable_device", noting(lambda _name: torch.device("cpu")))
    monkeypatch.setattr(app, "train", noting(app.train))
    monkeypatch.delenv(WORKSPACE, raising=False)
    return found


@pytest.mark.slow
def test_two_runs_agree_bit_for_bit(tmp_path):
    first, second, other = (
        numbers(tmp_path, name, "--deterministic", "--seed", seed)
        for name, seed in zip("abc", "335", strict=True)
    )
    assert first == second
    assert first != other
    assert len(first) == 2


@pytest.mark.parametrize(("device", "workspace"), [("cpu", None), ("cuda", ":4096:8")])
def test_the_mode_is_on_while_a_run_lasts(states, tmp_path, device, workspace):
    numbers(tmp_path, "a", "--deterministic", "--device", device)
    assert states == [(True, workspace)] * 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert WORKSPACE not in os.environ


def test_the_mode_is_off_unless_asked_for(states, tmp_path):
    numbers(tmp_path, "a", "--device", "cuda")
    assert states == [(False, None)] * 2


def test_a_run_that_cannot_begin_leaves_nothing_behind(states):
    assert main([*RUN, "--deterministic", "--device", "cuda", "--entropy-multiplier", "arm=1"]) == 2
    assert states == [(True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()
    assert WORKSPACE not in os.environ


def test_a_mode_that_only_warns_does_so_again_afterwards(states, tmp_path):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        numbers(tmp_path, "a", "--deterministic")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_workspace_of_the_user_stays(states, monkeypatch, tmp_path):
    monkeypatch.setenv(WORKSPACE, ":16:8")
    numbers(tmp_path, "a", "--deterministic", "--device", "cuda")
    assert states == [(True, ":16:8")] * 2
    assert os.environ[WORKSPACE] == ":16:8"


def test_a_workspace_in_the_way_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv(WORKSPACE, ":32:2")
    assert main([*RUN, "--deterministic", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == (
        "rl-train: error: --deterministic: products differ under CUBLAS_WORKSPACE_CONFIG=:32:2; "
        "leave it out of the environment\n"
    )
