"""Runs that take little time: the smallest that have a checkpoint, and what a run has logged."""

import json

from rl_exporter import RunInfo, SanctumAggregator
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment

FIXED = ["--env", "heads", "--num-envs", "2", "--rollout-steps", "16", "--listen", "127.0.0.1:0", "--linger", "0",
         "--quiet", "--hidden", "8"]  # fmt: skip

SMALL_UPDATES = ("--hidden", "16", "--epochs", "2", "--minibatches", "2")
"""Of a run that has to go on, and to learn nothing: an update takes a tenth of the time."""


def setup(**options):
    environment = make_environment("heads", 2, {})
    config = PPOConfig(hidden=8, rollout_steps=16, **options)
    agent = PPOAgent(environment.heads, environment.observation_size, config)
    collector = RolloutCollector(environment, agent.network, seed=0, device=agent.device)
    return agent, collector, SanctumAggregator(agent.heads, RunInfo("checked"))


def logged_updates(text):
    """The updates of the ``--log-json`` file of a run that has ended, which holds whole lines only."""
    assert text == b"" or text.endswith(b"\n"), "half a line"
    return [json.loads(line)["update"] for line in text.splitlines()]


def lines_so_far(log):
    """The lines of a ``--log-json`` file that a run is writing, less the one of which it has written a part.

    The kernel writes page by page, so that whoever reads a file meanwhile may see the beginning of a write.
    """
    text = log.read_bytes() if log.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
