"""An Optuna study over rl-train that gives a trial up when one of its heads collapses.

    python examples/optuna_sweep.py --trials 8 --updates 80 --patience 2

Needs, in a clone: pip install '.[training]' optuna
"""

from __future__ import annotations

import argparse

import optuna

from sweep import PATIENCE_SECONDS, Run, collapsed, heads_of


class CollapsePruner(optuna.pruners.BasePruner):
    """Prunes a trial with a collapsed head, and leaves the others to ``otherwise``.

    The trial says by its user attribute ``url`` where its run answers.
    """

    def __init__(self, patience: float, otherwise: optuna.pruners.BasePruner | None = None) -> None:
        self._patience = patience
        self._otherwise = otherwise or optuna.pruners.NopPruner()

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether to give up. A run that does not answer goes on: its own end will say how it was."""
        try:
            heads = collapsed(heads_of(trial.user_attrs["url"]), self._patience)
        except OSError:
            heads = []
        return bool(heads) or self._otherwise.prune(study, trial)


def objective(trial: optuna.Trial, updates: int) -> float:
    """The last mean return of a run with the entropy coefficient and the factor for one head of this trial."""
    coefficient = trial.suggest_float("entropy_coef", 0.01, 0.1, log=True)
    factor = trial.suggest_float("blueprint", 0.0, 3.0)
    name = f"{trial.study.study_name}-{trial.number}"
    last, reported = float("nan"), 0  # Optuna calls a trial that returns NaN failed
    with Run(name, updates=updates, entropy_coef=coefficient, entropy_multiplier=f"blueprint={factor}") as run:
        trial.set_user_attr("url", run.url)
        for document in run.documents():
            if document["episode_return"] is not None and document["updates"] > reported:
                last, reported = document["episode_return"], document["updates"]
                trial.report(last, reported)
            if trial.should_prune():
                raise optuna.TrialPruned(f"collapsed: {', '.join(collapsed(document, 0.0))}")
    return last


def main() -> None:
    """Search, and say what became of each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--updates", type=int, default=60, help="length of each run")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds of collapse")
    arguments = parser.parse_args()
    pruner = CollapsePruner(arguments.patience)
    study = optuna.create_study(study_name="sweep", direction="maximize", pruner=pruner)
    study.optimize(lambda trial: objective(trial, arguments.updates), arguments.trials)
    for trial in study.trials:
        print(f"trial {trial.number} {trial.state.name.lower()} {trial.value}: {trial.params}")


if __name__ == "__main__":
    main()
