"""Measures the numbers in docs/environment.md: choice shares, returns of baselines, and a default run.

    python -m benchmarks.growing [--write docs/environment.md]
    python -m benchmarks.growing --run

Prints the tables as Markdown, and writes them between the markers of a page. With --run it measures
`rl-train --episodes 10` instead, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.growing_baselines import always_wait, follow, returns, uniform_random
from benchmarks.growing_scripts import BEST_SCRIPT, described
from benchmarks.marked_page import replaced
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.action_space import HEAD_NAMES, OPERATIONS_TABLE, SIZES
from rl_training.algorithm.collector import step_masks
from rl_training.config import PPOConfig, RunConfig
from rl_training.environments.growing.environment import GrowingNetworkEnv

UPDATES = 24
SEEDS = range(100)

BEGIN, END = "<!-- growing: begin -->\n", "<!-- growing: end -->\n"


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
                action = policy(env, 0)
                masks.append(env.action_masks())
                operations.append(action[0])
                if env.step(action)[2]:
                    env.reset()
        found = step_masks(np.stack(masks), np.array(operations), layout, OPERATIONS_TABLE)
        shares.append(found.choice.mean(0))
    return np.stack(shares)


def tables() -> str:
    """Everything between the markers of the page."""
    size = f"{RunConfig().num_envs} environments x {PPOConfig().rollout_steps} steps"
    shares = f"Choice steps of a uniformly random policy over {UPDATES} updates of {size}:\n\n{shares_table()}"
    policies = f"Policies that do not learn, {len(SEEDS)} episodes each:\n\n{returns_table()}"
    return f"\n{shares}\n{policies}\nThe best script:\n\n{described(BEST_SCRIPT)}\n"


def shares_table() -> str:
    """One line for each head."""
    shares = choice_shares()
    lines = [
        "| head | choice share, mean | least of an update | updates with choice steps |",
        "| --- | --- | --- | --- |",
    ]
    for name, column in zip(HEAD_NAMES, shares.T, strict=True):
        lines.append(f"| `{name}` | {column.mean():.1%} | {column.min():.1%} | {(column > 0).mean():.0%} |")
    return "\n".join(lines) + "\n"


def returns_table() -> str:
    """One line for each policy."""
    env = GrowingNetworkEnv()
    lines = ["| policy | mean return | standard error | mean final accuracy |", "| --- | --- | --- | --- |"]
    policies = {
        "always WAIT": always_wait,
        "uniformly random": uniform_random(np.random.default_rng(0)),
        "best script": follow(BEST_SCRIPT),
    }
    for name, policy in policies.items():
        found, accuracies = [], []
        for seed in SEEDS:
            found += returns(policy, env, [seed])
            accuracies.append(env.accuracy)
        error = statistics.stdev(found) / len(found) ** 0.5
        numbers = f"{statistics.fmean(found):.2f} | {error:.2f} | {statistics.fmean(accuracies):.1%}"
        lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines) + "\n"


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure a default run instead")
    parser.add_argument("--write", type=Path, help="a page to write the tables into, between its markers")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.run:
        print_run()
        return
    content = tables()
    print(content)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(replaced(page, BEGIN, END, content), encoding="utf-8")


if __name__ == "__main__":
    main()
