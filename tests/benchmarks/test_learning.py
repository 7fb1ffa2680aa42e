"""The learning benchmark: rows, logs, what counts, the page."""

import json
from dataclasses import replace

import pytest

from benchmarks.learning import main
from benchmarks.learning_runs import ours
from benchmarks.learning_runs.jobs import Job, found, jobs, made_now, train, variants
from benchmarks.learning_runs.log import STEPS, LogError, read_log, write_log
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.report import tables, text
from benchmarks.learning_runs.rows import documented_cartpole, rows, settings_of, steps_of_an_update
from benchmarks.learning_runs.scripts import _known
from rl_training.config import PPOConfig
from tests.benchmarks.made_logs import HEADS, ROWS, point, write_run
from tests.support import ROOT


def test_the_end_of_a_run_counts_not_its_best_moment(tmp_path):
    job = Job("heads", OURS, (), 0)
    write_run(tmp_path, job, 9.0, 15.0, 11.0)
    log = read_log(job.path(tmp_path))
    assert (log.end, log.steps, log.returns) == (11.0, (100, 200, 300), (9.0, 15.0, 11.0))


def test_a_run_of_fewer_than_100_episodes_cannot_be_judged(tmp_path, capsys):
    job = Job("heads", OURS, (), 0)
    write_log(job.path(tmp_path), made_now(job), [{STEPS: 16}, point(1600, 9.0, episodes=99)])
    with pytest.raises(LogError, match="99 episodes ended, of 100 that are judged; give the row more steps"):
        read_log(job.path(tmp_path))
    assert found([job], tmp_path, strict=False) == {}
    assert "left out, heads--rl-train--0.jsonl: 99 episodes ended" in capsys.readouterr().err


def test_every_row_gives_us_and_its_peers_the_same_steps():
    assert len(ROWS) == len(rows()) >= 7
    for row in rows():
        assert row.peers
        settings = settings_of(ours.command(row, (), 3))
        assert settings.run.env == row.environment
        assert settings.run.seed == 3
        assert dict(row.arguments).items() <= dict(settings.environment).items()
        steps = settings.run.updates * steps_of_an_update(settings)
        assert row.steps - steps_of_an_update(settings) < steps <= row.steps


def test_the_row_of_the_documented_command_is_the_documented_command():
    row = ROWS["cartpole-command"]
    assert (
        f"rl-train --env CartPole-v1 {' '.join(documented_cartpole())}\n"
        in (ROOT / "docs/train.md").read_text()
    )
    settings = settings_of(ours.command(row, (), 0))
    assert settings.learning == settings_of(row.words).learning
    assert settings.run.updates == settings_of(row.words).run.updates


def test_an_experiment_has_the_steps_of_its_row():
    overrides = ("rollout-steps=128", "learning-rate=1e-3", "run-id-unique=true", "env-arg=noise=4")
    settings = settings_of(ours.command(HEADS, overrides, 0))
    assert settings.run.updates == HEADS.steps // (32 * 128)
    assert settings.learning.learning_rate == 1e-3
    assert settings.environment["noise"] == 4
    assert settings.run.run_id_unique is True
    made = ours.made(HEADS, overrides, 0)
    assert made.settings["learning"]["learning-rate"] == 1e-3


def test_only_logs_with_the_settings_of_now_count(tmp_path, capsys):
    job = Job("heads", OURS, (), 0)
    write_run(tmp_path, job, 12.0)
    assert list(found([job], tmp_path, strict=True)) == [job]
    write_run(tmp_path, job, 12.0, code="other")
    assert list(found([job], tmp_path, strict=False)) == [job]
    assert found([job], tmp_path, strict=True) == {}
    settings = made_now(job).settings
    write_run(tmp_path, job, 12.0, settings={**settings, "learning": {**settings["learning"], "clip": 0.1}})
    assert found([job], tmp_path, strict=False) == {}
    assert capsys.readouterr().err.splitlines() == [
        f"{problem}: heads--rl-train--0.jsonl"
        for problem in (
            "note, made by sources that have changed since",
            "left out, made by sources that have changed since",
            "left out, made with other settings than those of now",
        )
    ]


def test_every_kind_of_log_knows_what_decides_its_run():
    learned, script = (
        made_now(Job("heads", "MaskablePPO 32x12", (), 0)),
        made_now(Job("growing", "best script", (), 0)),
    )
    assert learned.settings["environments"] == 32
    assert learned.settings["options"] == {"n_steps": 12, "batch_size": 96, "n_epochs": 8}
    assert learned.settings["steps"] == HEADS.steps
    assert len(script.settings["script"]["plantings"]) >= 1


def test_the_rows_of_the_growing_network_share_what_the_script_returned(tmp_path):
    growing, long = Job("growing", "best script", (), 2), Job("growing-long", "best script", (), 2)
    write_run(tmp_path, growing, 2.5)
    train(long, tmp_path)
    assert read_log(long.path(tmp_path)).end == 2.5
    long.path(tmp_path).unlink()
    # Another script, other sources and another seed returned something else.
    write_run(tmp_path, growing, 2.5, settings={"script": {}})
    assert _known(made_now(long), tmp_path) is None
    write_run(tmp_path, growing, 2.5, code="other")
    assert _known(made_now(long), tmp_path) is None
    write_run(tmp_path, replace(growing, seed=1), 2.5)
    assert _known(made_now(long), tmp_path) is None


def test_variants_lie_apart_from_the_defaults(tmp_path):
    wanted = jobs([HEADS], ("ours",), 2, ("learning-rate=1e-3", "clip=0.1"))
    assert [job.path(tmp_path).name for job in wanted] == [
        f"heads--rl-train,clip=0.1,learning-rate=1e-3--{seed}.jsonl" for seed in range(2)
    ]
    for job in wanted:
        write_run(tmp_path, job, 12.0 + job.seed)
    assert list(variants(rows(), tmp_path, 5)) == wanted
    assert found(jobs([HEADS], ("ours",), 2, ()), tmp_path, strict=False) == {}
    (line,) = text([HEADS], found(wanted, tmp_path, strict=False)).splitlines()[1:]
    assert line.endswith("12.50    12.00    13.00  rl-train clip=0.1 learning-rate=1e-3: 12.00 13.00")


def test_what_is_learned_stands_on_one_page():
    for name in ("README.md", "docs/train.md", "docs/environment.md"):
        page = (ROOT / name).read_text()
        assert "learning.md" in page
        assert "solve" not in page


def test_no_line_for_a_terminal_or_a_page_names_the_folder_of_a_clone():
    assert str(ROOT) not in tables(rows(), [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "heads,nowhere"], "--rows heads,nowhere: no such row; give all, quick, or some of heads, "),
        (["--who", "DQN"], "--who DQN: nobody of that name; give some of ours, peers, MaskablePPO, "),
        (["--set", "clip"], "--set clip: not KEY=VALUE; write for example learning-rate=1e-3"),
        (["--set", "env-arg=noise=-4"], "--set: heads environment: noise=-4 is not possible; give a whole number >= 0"),
        (["--seeds", "0"], "--seeds must be 1 or more"),
        (["--write", "nowhere"], "--write nowhere: there is no learning.md in this folder; give docs"),
        (["--set", "clip=0.1", "--write", "docs"], "--write and --set exclude each other: the page compares"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line(arguments, message, capsys):
    assert main([*arguments, "--processes", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"learning: error: {message}")


def test_an_impossible_setting_is_refused_before_anything_trains(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--rows", "heads", "--who", "ours", "--set", "clip=-1", "--folder", str(tmp_path)])
    assert "argument --clip: '-1' is not possible" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_processes_of_an_environment_is_no_setting_of_a_run():
    """It changes how fast the run is, and none of its numbers: a log of another machine counts."""
    (row,) = (row for row in rows() if row.name == "growing")
    alone, shared = (ours.made(row, (f"env-arg=workers={workers}",), 0).settings for workers in (1, 3))
    assert alone == shared == ours.made(row, (), 0).settings
    assert ours.made(row, ("env-arg=samples=128",), 0).settings != alone


def test_a_log_is_compact_json_lines(tmp_path):
    job = Job("heads", OURS, (), 0)
    write_run(tmp_path, job, 9.0)
    head, line = (json.loads(line) for line in job.path(tmp_path).read_text().splitlines())
    updates = 57_600 // (32 * PPOConfig().rollout_steps)
    assert head["settings"]["run"] == {"env": "heads", "num-envs": 32, "updates": updates, "seed": 0}
    assert line == point(100, 9.0)
