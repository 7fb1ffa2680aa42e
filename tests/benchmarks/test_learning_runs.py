"""Small runs of the learning benchmark: each trainer really trains, on the environments as it is shown them."""

import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.learning_runs import ours, peers
from benchmarks.learning_runs.jobs import Job, made_now, train_missing
from benchmarks.learning_runs.log import read_log
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.rows import rows
from benchmarks.learning_runs.sb3_environment import make
from rl_training.action_space import OFFSETS, OPERATIONS_TABLE, SEGMENT, SIZES
from tests.support.waiting import until

SMALL = replace(next(row for row in rows() if row.name == "heads"), steps=2304)
"""144 episodes in one environment, 128 in 32."""


def test_a_peer_can_have_the_settings_of_rl_train():
    settings = made_now(Job("heads", "MaskablePPO as rl-train", (), 0)).settings
    assert settings["environments"] == 32
    assert settings["options"] == {
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 8,
        "learning_rate": 1e-3,
        "ent_coef": 0.01,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
    }


def test_flat_masks_are_what_some_valid_operation_allows():
    env = make("growing-network", {"samples": 64, "plateau_epochs": 1})
    generator = np.random.default_rng(0)
    env.reset(seed=0)
    seen = set()
    for _ in range(28):
        flat, masks = env.action_masks(), env.unwrapped.action_masks()
        valid = np.flatnonzero(masks[0, : SIZES[0]])
        wanted = np.zeros_like(flat)
        for operation in valid:
            wanted |= masks[operation] & OPERATIONS_TABLE[operation][SEGMENT]
        # A head that no valid operation consults keeps its canonical action.
        for offset, size in zip(OFFSETS, SIZES, strict=True):
            wanted[offset] |= not wanted[offset : offset + size].any()
        assert flat.tolist() == wanted.tolist()
        assert flat[: SIZES[0]].tolist() == masks[0, : SIZES[0]].tolist()
        seen.add(flat.tobytes())
        action = [
            generator.choice(np.flatnonzero(flat[o : o + n])) for o, n in zip(OFFSETS, SIZES, strict=True)
        ]
        if env.step(np.array(action))[2]:
            env.reset()
    assert len(seen) >= 3


def test_an_algorithm_without_masks_is_shown_them():
    env = make("heads", {"delay": 1}, show_masks=True)
    observation, _ = env.reset(seed=0)
    masks = env.get_wrapper_attr("action_masks")()
    assert env.observation_space.contains(observation)
    assert observation[-len(masks) :].tolist() == masks.tolist()
    assert observation[: -len(masks)].tolist() == make("heads", {"delay": 1}).reset(seed=0)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "least"),
    [("MaskablePPO", 6), ("MaskablePPO 32x12", 6), ("RecurrentPPO 32x12", 6), ("RecurrentPPO as rl-train", 5)],
)
def test_a_peer_stops_at_the_last_step_of_the_row(who, least, tmp_path):
    threads = torch.get_num_threads()
    try:
        peers.train(SMALL, who, 0, tmp_path / "log.jsonl")
    finally:
        torch.set_num_threads(threads)
    log = read_log(tmp_path / "log.jsonl")
    assert (log.steps[-1], log.episodes) == (2304, 128 if " " in who else 144)
    assert len(log.steps) > 5
    # The mean of 100 episodes of 16 steps; uniformly random actions reach 7.9 of 16 under the masks, which
    # RecurrentPPO does not apply: 5.9.
    assert least < log.end < 12


@pytest.mark.slow
def test_a_run_of_ours_is_that_of_the_command(tmp_path):
    overrides = ("learning-rate=1e-3", "rollout-steps=12")
    ours.train(SMALL, overrides, 1, tmp_path / "log.jsonl")
    log = read_log(tmp_path / "log.jsonl")
    assert log.made == ours.made(SMALL, overrides, 1)
    assert (log.steps[-1], log.episodes) == (2304, 128)
    assert 6 < log.end < 12


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_leaves_no_log(tmp_path, capsys):
    broken = [Job("heads", OURS, ("learning-rate=1e3", "max-gradient-norm=1e3", "device=nowhere"), 0)]
    assert train_missing(broken, tmp_path, 1) == 1
    assert "1/1  heads--rl-train,learning-rate=1e3" in (said := capsys.readouterr().err)
    assert "rl-train ended with 2: rl-train: error: " in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_early_leaves_no_log(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(ours.train, replace(SMALL, steps=10**6), (), 0, tmp_path / "log")
        until(lambda: any(path.stat().st_size for path in tmp_path.glob("*/log.jsonl")))
        # Its command line names its log, which lies in here.
        (run,) = (
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if str(tmp_path) in path.read_text()
        )
        os.kill(run, signal.SIGTERM)
        with pytest.raises(RuntimeError, match=r"seed 0: interrupted after \d+ of 976 updates"):
            training.result(timeout=120)
    assert not (tmp_path / "log").exists()
