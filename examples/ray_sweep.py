"""A Ray Tune experiment over rl-train whose trials stop when one of their heads collapses.

    python examples/ray_sweep.py --trials 8 --updates 80 --patience 2

Needs, in a clone: pip install '.[training]' 'ray[tune]'
"""

from __future__ import annotations

import argparse
from typing import Any

from ray import tune

from sweep import PATIENCE_SECONDS, Run, collapsed


class Training(tune.Trainable):
    """One run: a step is a look at it, and the end of the trial ends it."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the run of this trial."""
        options = {"updates": config["updates"], "entropy_coef": config["entropy_coef"]}
        self._run = Run(
            f"ray-{self.trial_id}", **options, entropy_multiplier=f"blueprint={config['blueprint']}"
        )
        self._documents = self._run.documents()

    def step(self) -> dict[str, Any]:
        """What the run says now: its return, and its collapsed heads. ``done`` where it has ended."""
        document = next(self._documents, None)
        if document is None:
            return {"done": True}
        return {
            "episode_return": document["episode_return"],
            "collapsed": collapsed(document, 0.0),
            "heads": document["heads"],
        }

    def cleanup(self) -> None:
        """End the run; Tune calls this also when it stops a trial."""
        self._run.stop()


class StopOnCollapse(tune.Stopper):
    """Stops a trial, not the experiment, once a head has been collapsed for ``patience`` seconds."""

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience

    def __call__(self, _trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this trial has had enough."""
        return bool(collapsed(result, self._patience)) if "heads" in result else False

    def stop_all(self) -> bool:
        """Other trials go on."""
        return False


def run_config(patience: float) -> tune.RunConfig:
    """Stop on collapse; rl-train --checkpoint keeps checkpoints, so Tune keeps none."""
    none = tune.CheckpointConfig(checkpoint_at_end=False)
    return tune.RunConfig(stop=StopOnCollapse(patience), checkpoint_config=none)


def main() -> None:
    """Search, and say what became of each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--updates", type=int, default=60, help="length of each run")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds of collapse")
    arguments = parser.parse_args()
    space = {
        "updates": arguments.updates,
        "entropy_coef": tune.loguniform(0.01, 0.1),
        "blueprint": tune.uniform(0.0, 3.0),
    }
    tuner = tune.Tuner(
        Training,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=arguments.trials),
        run_config=run_config(arguments.patience),
    )
    for result in tuner.fit():
        print(f"collapsed {result.metrics.get('collapsed')}: {result.config}")


if __name__ == "__main__":
    main()
