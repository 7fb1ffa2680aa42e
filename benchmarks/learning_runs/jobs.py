"""Which runs there are, where their logs lie, which are missing, and what trains them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.learning_runs import ours, scripts
from benchmarks.learning_runs.log import LogError, Made, RunLog, log_name, read_log, read_made
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.rows import SCRIPT, Row, rows

OTHER_SETTINGS = "left out, made with other settings than those of now"


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a row, who trains, with which settings beside those of the row, and a seed."""

    row: str
    who: str
    overrides: tuple[str, ...]
    seed: int

    def path(self, folder: Path) -> Path:
        """Where its log lies."""
        return folder / f"{self.row}--{log_name(self.who, *self.overrides)}--{self.seed}.jsonl"


def jobs(chosen: Iterable[Row], who: Sequence[str], seeds: int, overrides: Sequence[str]) -> list[Job]:
    """Every run of these rows. ``who`` holds ours, peers or names of peers."""
    found = []
    for row in chosen:
        peers = tuple(name for name in row.peers if "peers" in who or name in who)
        for name in (OURS,) * ("ours" in who) + peers:
            # The settings that an experiment changes are those of ``rl-train``.
            given = tuple(sorted(overrides)) if name == OURS else ()
            found += [Job(row.name, name, given, seed) for seed in range(seeds)]
    return found


def made_now(job: Job) -> Made:
    """How the run would be made with the code as it is."""
    (row,) = (row for row in rows() if row.name == job.row)
    if job.who == OURS:
        return ours.made(row, job.overrides, job.seed)
    if job.who == SCRIPT:
        return scripts.made(row, job.seed)
    from benchmarks.learning_runs import peers  # noqa: PLC0415 - Stable-Baselines3 is for the peers alone

    return peers.made(row, job.who, job.seed)


def train(job: Job, folder: Path, workers: int = 1) -> None:
    """Train one run and leave its log. ``workers``: processes for its environments, where they take some."""
    (row,) = (row for row in rows() if row.name == job.row)
    if job.who == OURS:
        ours.train(row, job.overrides, job.seed, job.path(folder), workers)
    elif job.who == SCRIPT:
        scripts.play(row, job.seed, job.path(folder))
    else:
        from benchmarks.learning_runs import peers  # noqa: PLC0415 - as in made_now

        peers.train(row, job.who, job.seed, job.path(folder))


def found(wanted: Iterable[Job], folder: Path, *, strict: bool) -> dict[Job, RunLog]:
    """The logs of these runs that count; a line for each kind of problem goes to standard error.

    A log with other settings than those of now does not count. One that other sources made does, unless
    ``strict``.
    """
    logs, problems = {}, defaultdict(list)
    for job in wanted:
        path = job.path(folder)
        if not path.exists():
            continue
        try:
            log = read_log(path)
        except LogError as error:
            problems[f"left out, {error}"].append(path)
            continue
        problem = _difference(log.made, made_now(job), strict=strict)
        if problem:
            problems[problem].append(path)
        if not problem.startswith("left out"):
            logs[job] = log
    for problem, paths in problems.items():
        more = f" and {len(paths) - 1} more" * (len(paths) > 1)
        sys.stderr.write(f"{problem}: {paths[0].name}{more}\n")
    return logs


def _difference(made: Made, now: Made, *, strict: bool) -> str:
    """What distinguishes a run from one of now; empty where nothing does."""
    if made.settings != now.settings:
        return OTHER_SETTINGS
    if made.code != now.code:
        return f"{'left out' if strict else 'note'}, made by sources that have changed since"
    return ""


def variants(chosen: Iterable[Row], folder: Path, seeds: int) -> Iterator[Job]:
    """The runs of ``rl-train`` with settings of their own that have logs in the folder."""
    for row in chosen:
        for path in sorted(folder.glob(f"{row.name}--{OURS},*--*.jsonl")):
            made = read_made(path)
            if made.seed < seeds:
                yield Job(made.row, made.who, made.overrides, made.seed)


def train_missing(wanted: Sequence[Job], folder: Path, processes: int) -> int:
    """Train these runs, the first seed of each row first. Returns how many failed, each with a line."""
    slow = {row.name: row.slow for row in rows()}
    ordered = sorted(wanted, key=lambda job: (slow[job.row], job.seed))
    began, failures = time.monotonic(), 0
    # Spawned: a forked child inherits the threads of torch in whatever state they are.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        workers = max(1, (os.cpu_count() or 1) // processes)
        futures = {pool.submit(train, job, folder, workers): job for job in ordered}
        for done, future in enumerate(as_completed(futures), 1):
            error = future.exception()
            failures += error is not None
            said = f"{done}/{len(ordered)}  {futures[future].path(folder).stem}  {error or ''}".rstrip()
            sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {said}\n")
    return failures
