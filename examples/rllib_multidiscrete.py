"""PPO of RLlib with three heads, each of them on /metrics.

    python examples/rllib_multidiscrete.py --total-timesteps 50000
    curl http://127.0.0.1:28008/metrics | grep rl_policy_head
Needs, in a clone: pip install '.[rllib]'
"""

import argparse

from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env

from picking import Picking
from rl_exporter import serve
from rl_exporter.integrations.rllib import HeadPPOTorchLearner, ResultRecorder, heads_of


def main() -> None:
    """Train, and print each head's final entropy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=50_000)
    parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
    parser.add_argument("--run-id", help="name of the run; generated when left out")
    arguments = parser.parse_args()
    register_env("picking", lambda _: Picking())
    config = PPOConfig().environment("picking").env_runners(num_env_runners=0)
    config.training(train_batch_size_per_learner=1024, minibatch_size=256, num_epochs=8, lr=1e-3)
    config.training(learner_class=HeadPPOTorchLearner, learner_config_dict={"head_names": Picking.head_names})
    algorithm = config.build_algo()
    with serve(heads_of(algorithm), run_id=arguments.run_id, listen=arguments.listen) as recorder:
        print(f"run {recorder.snapshot().run.run_id}: {recorder.url}/metrics", flush=True)
        results = ResultRecorder(algorithm, recorder)
        for _ in range(arguments.total_timesteps // 1024):
            results.record(algorithm.train())
    for name, head in recorder.snapshot().tamiyo.readings.items():
        print(f"{name:8} {head.entropy:.3f} nats, {head.normalized:.3f} of its maximum: {head.level}")


if __name__ == "__main__":
    main()
