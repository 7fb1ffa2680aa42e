"""The examples that stop a sweep's run on collapse, on real runs as far as their libraries are there."""

import os
import sys
import time

import pytest

import rl_exporter
from rl_exporter import HeadMeasurement
from tests.support import ROOT

BLIND = HeadMeasurement(0.1, 0.1, 1.0, 1.0, 0.2, state_information=0.003)
SEEING = HeadMeasurement(0.1, 0.1, 1.0, 1.0, 0.2, state_information=0.9)
GONE = "http://127.0.0.1:9"
COLLAPSING = {"updates": 400, "entropy_coef": 0.05, "blueprint": 0.0}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    path = os.pathsep.join([str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)  # of the workers of Ray
    yield
    for name in ("sweep", "optuna_sweep", "ray_sweep"):
        sys.modules.pop(name, None)


@pytest.fixture
def recorder():
    with rl_exporter.serve({"op": 4}, run_id="trial", listen="127.0.0.1:0", linger=0) as serving:
        yield serving


def collapse(recorder, measurement=BLIND, updates=3):
    for _ in range(updates):
        recorder.handler.handle_ppo_update(rl_exporter.PPOUpdatePayload(heads={"op": measurement}))


@pytest.mark.parametrize(
    ("measurement", "updates", "patience", "expected"),
    [
        (BLIND, 3, 0.0, ["op"]),
        (BLIND, 2, 0.0, []),
        (BLIND, 3, 60.0, []),
        (SEEING, 3, 0.0, []),
        (BLIND, 0, 0.0, []),
    ],
)
def test_a_head_has_collapsed_as_the_alert_says(recorder, measurement, updates, patience, expected):
    from sweep import collapsed, heads_of

    collapse(recorder, measurement, updates)
    assert collapsed(heads_of(recorder.url), patience) == expected
    assert collapsed(rl_exporter.document(recorder.snapshot()), patience) == expected


def test_the_pruner_gives_a_collapsed_trial_up_and_leaves_the_others_to_another_pruner(recorder):
    optuna = pytest.importorskip("optuna")
    from optuna_sweep import CollapsePruner

    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return True

    study = optuna.create_study()

    def pruned(url, otherwise=None):
        trial = optuna.trial.create_trial(value=0.0, user_attrs={"url": url})
        return CollapsePruner(0.0, otherwise).prune(study, trial)

    assert not pruned(recorder.url)
    assert pruned(recorder.url, Always())
    collapse(recorder)
    assert pruned(recorder.url)
    assert not pruned(GONE)


@pytest.mark.slow
def test_optuna_prunes_a_run_that_collapses():
    optuna = pytest.importorskip("optuna")
    from optuna_sweep import CollapsePruner, objective

    study = optuna.create_study(direction="maximize", pruner=CollapsePruner(0.2))
    study.enqueue_trial({"entropy_coef": COLLAPSING["entropy_coef"], "blueprint": 0.0})
    study.optimize(lambda trial: objective(trial, COLLAPSING["updates"]), n_trials=1)
    (trial,) = study.trials
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert trial.last_step < COLLAPSING["updates"]


@pytest.mark.slow
def test_a_trial_of_optuna_that_reaches_its_end_has_the_return_of_its_run():
    optuna = pytest.importorskip("optuna")
    from optuna_sweep import CollapsePruner, objective

    study = optuna.create_study(direction="maximize", pruner=CollapsePruner(60.0))
    # Long enough to be seen between two polls, however fast the machine is.
    study.optimize(lambda trial: objective(trial, 30), n_trials=1)
    assert study.best_value > 0.0


@pytest.mark.slow
def test_ray_tune_stops_a_run_that_collapses(tmp_path):
    tune = pytest.importorskip("ray.tune")
    from ray_sweep import Training, run_config

    settings = run_config(0.2)
    settings.storage_path = str(tmp_path)
    (result,) = tune.Tuner(Training, param_space=COLLAPSING, run_config=settings).fit()
    assert result.error is None
    assert result.metrics["collapsed"] == ["blueprint"]


def test_a_run_that_never_starts_says_nothing():
    from sweep import Run

    started = time.monotonic()
    with Run("never", env_arg="nonsense=1") as run:
        assert list(run.documents()) == []
    assert time.monotonic() - started < 60
