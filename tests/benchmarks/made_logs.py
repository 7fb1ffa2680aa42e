"""Logs of the learning benchmark, written by tests."""

from dataclasses import replace

from benchmarks.learning_runs.jobs import Job, found, jobs, made_now
from benchmarks.learning_runs.log import EPISODES, RETURN, STEPS, write_log
from benchmarks.learning_runs.rows import rows

ROWS = {row.name: row for row in rows()}
HEADS = ROWS["heads"]


def point(steps, value, episodes=100):
    return {STEPS: steps, RETURN: value, EPISODES: episodes}


def write_run(folder, job, *values, **changes):
    made = replace(made_now(job), **changes)
    write_log(job.path(folder), made, [point(100 * (at + 1), value) for at, value in enumerate(values)])


def logs_of(folder, row, **values):
    """Logs of runs that ended at the values, by trainer."""
    folder.mkdir(exist_ok=True)
    for who, ended in values.items():
        for seed, value in enumerate(ended):
            write_run(folder, Job(row.name, who, (), seed), value)
    return found(jobs([row], ("ours", "peers"), 5, ()), folder, strict=False)
