"""Measures the numbers in docs/environment.md: choice shares, returns of baselines, and a default run.

    python -m benchmarks.growing [--run]

Prints the tables as Markdown. With --run it measures `rl-train --episodes 10` instead, which takes minutes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.growing_baselines import always_wait, fixed_schedule, returns, uniform_random
from rl_training.action_space import HEAD_NAMES, OPERATIONS_TABLE, SIZES
from rl_training.algorithm.collector import step_masks
from rl_training.config import PPOConfig, RunConfig
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.policy.distributions import HeadLayout

UPDATES = 24
SEEDS = range(10)


def choice_shares() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(updates, H): share of choice steps under a uniformly random policy, with the default settings."""
    layout = HeadLayout(HEAD_NAMES, SIZES)
    environments = [GrowingNetworkEnv() for _ in range(RunConfig().num_envs)]
    policies = [uniform_random(np.random.default_rng([0, i])) for i in range(len(environments))]
    for index, env in enumerate(environments):
        env.reset(seed=index)
    shares = []
    for _ in range(UPDATES):
        masks, operations = [], []
        for _ in range(PPOConfig().rollout_steps):
            for env, policy in zip(environments, policies, strict=True):
                action = policy(env)
                masks.append(env.action_masks())
                operations.append(action[0])
                if env.step(action)[2]:
                    env.reset()
        found = step_masks(np.stack(masks), np.array(operations), layout, OPERATIONS_TABLE)
        shares.append(found.choice.mean(0))
    return np.stack(shares)


def print_shares() -> None:
    """Print one row for each head."""
    shares = choice_shares()
    print("| head | choice share, mean | least of an update | updates with choice steps |")
    print("| --- | --- | --- | --- |")
    for name, column in zip(HEAD_NAMES, shares.T, strict=True):
        print(f"| `{name}` | {column.mean():.1%} | {column.min():.1%} | {(column > 0).mean():.0%} |")


def print_returns() -> None:
    """Print one row for each policy."""
    env = GrowingNetworkEnv()
    print("\n| policy | mean return | standard error | mean final accuracy |")
    print("| --- | --- | --- | --- |")
    policies = {
        "always WAIT": always_wait,
        "uniformly random": uniform_random(np.random.default_rng(0)),
        "fixed schedule": fixed_schedule,
    }
    for name, policy in policies.items():
        seeds = SEEDS if name != "uniformly random" else range(40)
        found, accuracies = [], []
        for seed in seeds:
            found += returns(policy, env, [seed])
            accuracies.append(env.accuracy)
        error = statistics.stdev(found) / len(found) ** 0.5
        print(f"| {name} | {statistics.fmean(found):.2f} | {error:.2f} | {statistics.fmean(accuracies):.1%} |")


def print_run() -> None:
    """Print time and entropies of a default run."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        command = [sys.executable, "-m", "rl_training", "--episodes", "10", "--log-json", str(log), "--quiet"]
        started = time.monotonic()
        process = subprocess.Popen([*command, "--listen", "127.0.0.1:0", "--linger", "0"])
        first = None
        while process.poll() is None:
            if first is None and log.exists() and log.stat().st_size:
                first = time.monotonic() - started
            time.sleep(0.05)
        whole = time.monotonic() - started
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    lowest = min(line["rl_policy_head_choice_entropy_ratio"]["op"] for line in lines[:20])
    print(f"\nfirst update after {first:.1f} s; {len(lines)} updates in {whole:.0f} s; ", end="")
    print(f"lowest choice entropy of op in the first 20: {lowest:.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--run" in sys.argv:
        print_run()
    else:
        print_shares()
        print_returns()
