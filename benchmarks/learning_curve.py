"""Draws docs/learning-curve.svg from the logs of `make train-long` with different seeds.

for seed in 0 1 2; do make train-long ARGS="--seed $seed --log-json seed-$seed.jsonl --linger 0"; done
python -m benchmarks.learning_curve docs/learning-curve.svg seed-0.jsonl seed-1.jsonl seed-2.jsonl
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

from benchmarks.growing_baselines import always_wait, fixed_schedule, returns, uniform_random
from rl_training.environments.growing.environment import GrowingNetworkEnv

RETURN, STEPS = "rl_training_episode_return", "rl_training_environment_steps_total"


def curve(log: Path) -> tuple[list[float], list[float]]:
    """Environment steps and mean return of the last 100 episodes, from the updates that had episodes."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    points = [(line[STEPS], line[RETURN]) for line in lines if RETURN in line]
    return [steps for steps, _ in points], [value for _, value in points]


def baselines() -> dict[str, float]:
    """Mean returns of policies that do not learn."""
    env = GrowingNetworkEnv()
    return {
        "fixed schedule": statistics.fmean(returns(fixed_schedule, env, range(10))),
        "uniformly random": statistics.fmean(returns(uniform_random(np.random.default_rng(0)), env, range(40))),
        "always WAIT": statistics.fmean(returns(always_wait, env, range(10))),
    }


def main(figure: Path, logs: list[Path]) -> None:
    """Draw and write the figure, and print its final values."""
    torch.set_num_threads(1)
    # Fixed identifiers and no date: the same logs must give the same file.
    mpl.rcParams["svg.hashsalt"] = "learning-curve"
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for log, colour in zip(logs, ("tab:blue", "tab:green", "tab:purple"), strict=False):
        steps, values = curve(log)
        axes.plot(steps, values, color=colour, label=f"PPO, {log.stem}")
        print(f"{log.stem}: {values[-1]:.2f} after {steps[-1]} steps")
    for (name, value), style in zip(baselines().items(), ("--", "-.", ":"), strict=True):
        axes.axhline(value, color="grey", linestyle=style, label=f"{name} ({value:.2f})")
        print(f"{name}: {value:.2f}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean return of the last 100 episodes")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    plt.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
