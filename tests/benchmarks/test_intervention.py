"""The benchmark of interventions: what counts, the page, an environment that moves; small runs really train."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import intervention
from benchmarks.intervention_runs.judgement import Head, Result, read_result, recovery
from benchmarks.intervention_runs.kinds import kinds, means
from benchmarks.intervention_runs.moving import FORMER_PAY, PAID_AT_FIRST, MovingTargetEnv
from benchmarks.intervention_runs.report import BEGIN, END, came_back, goals, lines, written
from benchmarks.intervention_runs.training import train_run
from rl_training.action_space import HEAD_NAMES

KINDS = {kind.name: kind for kind in kinds()}
MEANS = {one.name: one for one in means()}
HEALTHY, DOWN = Head(0.5, True, 0.0), Head(0.25, True, 0.0)


def result(kind="paid", end=12.0, seed=0, ratios=(0.1, 0.4), added=(0.0, 0.3)):
    heads = tuple(Head(ratio, True, one) for ratio, one in zip(ratios, added, strict=True))
    return Result(KINDS[kind], seed, (None, end), {"blueprint": heads, "tempo": heads, "op": heads}, 60.0)


@pytest.mark.parametrize(
    ("updates", "found"),
    [
        ([HEALTHY] * 3, (False, None)),
        ([HEALTHY, DOWN, DOWN, HEALTHY, DOWN], (True, None)),
        ([DOWN, HEALTHY, DOWN, HEALTHY, HEALTHY, HEALTHY, DOWN], (True, 3)),
        ([DOWN, HEALTHY, DOWN._replace(blind=False), HEALTHY, DOWN], (True, 1)),
        ([DOWN, DOWN], (True, None)),
        ([DOWN, Head(None, True, 0.0), HEALTHY], (True, 2)),
        ([DOWN._replace(blind=False)] * 3, (False, None)),
        ([Head(0.2501, True, 0.0)], (False, None)),
    ],
)
def test_a_head_comes_back_when_it_is_above_the_threshold(updates, found):
    assert recovery(updates) == found


def test_what_a_run_did_by_hand():
    run = result(ratios=(0.1, 0.2, 0.5, 0.3), added=(0.0, 0.1, 0.1, 0.0))
    assert (run.end, run.collapsed_updates, run.recoveries, run.interventions) == (12.0, 2, (2,), 6)
    assert run.swing == pytest.approx(0.2)
    assert result(added=(0.0, 0.0)).swing is None
    assert result("premature").collapsed_updates == 3  # without named heads every head counts
    assert came_back([run, result(ratios=(0.1, 0.1))]) == "1 of 2, after 2 (2 at most)"
    assert came_back([result(ratios=(0.5, 0.5))]) == "none collapsed"


def test_goals_compare_seeds_with_themselves():
    without = [result("moving", 9.0, 0), result("moving", 14.0, 1)]
    found = [result("moving", 10.0, 0), result("moving", 13.0, 1)]
    assert dict(goals(KINDS["moving"], found, without)) == {
        "every head back above 0.25 within 15 updates": "2 of 2",
        "a swing of 0.1 at most": "0 of 2",
        "a higher return at the end than without": "1 of 2",
    }
    healthy = [result("healthy", 9.0, added=(0.0, 0.0))]
    assert dict(goals(KINDS["healthy"], healthy, healthy)) == {
        "no intervention": "1 of 1", "the same return at the end as without": "1 of 1",
    }  # fmt: skip


def test_the_page_holds_what_the_runs_did():
    results = {("paid", "none"): [result(end=16.0)], ("paid", "controller"): [result(end=12.5)]}
    page = written(f"before\n{BEGIN}old\n{END}after\n", results)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert (
        "| controller | 12.50 (12.50 to 12.50) | -3.50 | 1 | 1 of 1, after 1 (1 at most) | 0.15 | 3 |" in page
    )
    assert "2 runs, 1 seeds of each" in next(lines(results))
    with pytest.raises(ValueError, match="intervention"):
        written("no markers", results)


def test_every_kind_meets_every_means_with_every_seed_and_the_first_seed_comes_first():
    jobs = list(intervention._jobs(None, None, 2))
    assert len(set(jobs)) == len(jobs)
    assert {job.seed for job in jobs[: len(jobs) // 2]} == {0}
    assert {(job.kind, job.means) for job in jobs} >= {
        (kind, one) for kind in KINDS for one in MEANS if not MEANS[one].trial
    }
    assert all(KINDS[job.kind].tries for job in jobs if MEANS[job.means].trial)


def test_an_unknown_name_is_one_line(capsys, tmp_path):
    folder = ("--folder", str(tmp_path), "--processes", "0")
    assert intervention.main(["--kinds", "paid,lost", *folder]) == 2
    assert intervention.main(["--means", "luck", *folder]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert "no ['lost']; give some of" in error
    assert intervention.main(list(folder)) == 0


@pytest.mark.parametrize("name", ["none", "controller", "fixed 0.2", "steps 0.05", "ungated"])
def test_a_small_run_trains_and_is_read_back(tmp_path, name):
    learning = replace(KINDS["paid"].learning, rollout_steps=16, epochs=1, hidden=8)
    kind = replace(KINDS["paid"], learning=learning, num_envs=2, updates=3)
    train_run(kind, MEANS[name], 0, tmp_path / "run.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    run = read_result(kind, 0, tmp_path / "run.json")
    assert {len(updates) for updates in run.heads.values()} == {3}
    assert tuple(run.heads) == HEAD_NAMES
    assert {head.added for head in run.heads["op"]} == {0.2 if name == "fixed 0.2" else 0.0}
    assert json.loads((tmp_path / "run.json").read_text())["cpu_seconds"] > 0


def test_the_target_moves_once_and_the_former_action_keeps_a_part_of_its_pay():
    environment = MovingTargetEnv(4, "blueprint", moves_after=5)
    environment.reset(seed=0)
    assert environment.action_masks()[:, 9:22].all()
    actions = np.zeros((4, len(HEAD_NAMES)), dtype=np.int64)

    def paid(action):
        actions[:, HEAD_NAMES.index("blueprint")] = action
        return environment.step(actions)[1]

    for _ in range(5):
        assert (paid(PAID_AT_FIRST) == 1.0).all()
    assert (paid(PAID_AT_FIRST) == FORMER_PAY).all()
    assert (paid(0) == 0.0).all()
    assert (paid(PAID_AT_FIRST + 6) == 1.0).all()
