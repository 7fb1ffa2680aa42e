"""PPO of Stable-Baselines3 with three heads, each of them on /metrics.

    python examples/sb3_multidiscrete.py --total-timesteps 50000
    curl http://127.0.0.1:28008/metrics | grep rl_policy_head

Needs, in a clone: pip install . stable-baselines3
"""

from __future__ import annotations

import argparse

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from picking import Picking
from rl_exporter.integrations.sb3 import HeadEntropyCallback


def main() -> None:
    """Train, and print each head's final entropy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=50_000)
    parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
    parser.add_argument("--run-id", help="name of the run; generated when left out")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # the network is small: more threads only wait for each other
    model = PPO("MlpPolicy", make_vec_env(Picking, n_envs=8), n_steps=128, batch_size=256, device="cpu")

    # The heads' names come from the environment. The end of the block reports how the run ended (completed,
    # interrupted by Ctrl-C, failed with an exception) and keeps /metrics up until the scrapers have seen it.
    with HeadEntropyCallback(arguments.run_id, listen=arguments.listen, verbose=1) as callback:
        model.learn(arguments.total_timesteps, callback=callback)

    for name, head in callback.recorder.snapshot().tamiyo.readings.items():
        print(f"{name:8} {head.entropy:.3f} nats, {head.normalized:.3f} of its maximum: {head.level}")


if __name__ == "__main__":
    main()
