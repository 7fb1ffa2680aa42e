"""What the entropy controller brings and costs, beside other means, on runs that collapse and runs that do not.

    python -m benchmarks.intervention --kinds paid,converging --means none,controller --seeds 2
    python -m benchmarks.intervention --processes 16 --folder .intervention
    python -m benchmarks.intervention --processes 0 --write docs/intervention.md

A run whose file is in the folder is not trained again, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from benchmarks.intervention_runs.judgement import Result, read_result
from benchmarks.intervention_runs.kinds import Kind, Means, kinds, means
from benchmarks.intervention_runs.report import lines, written
from benchmarks.intervention_runs.training import train_run


class Job(NamedTuple):
    """One run: names of its kind and of what intervenes, and its seed."""

    kind: str
    means: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Where the run is kept."""
        return folder / f"{self.kind}--{self.means.replace(' ', '-')}--{self.seed}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 2 for a name that does not exist."""
    options = _parser().parse_args(arguments)
    known = ({one.name for one in kinds()}, {one.name for one in means()})
    for names, there in zip((options.kinds, options.means), known, strict=True):
        unknown = set(names or ()) - there
        if unknown:
            sys.stderr.write(
                f"intervention: error: no {sorted(unknown)}; give some of {', '.join(sorted(there))}\n"
            )
            return 2
    jobs = list(_jobs(options.kinds, options.means, options.seeds))
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.processes:
        train_missing([job for job in jobs if not job.path(options.folder).exists()], options)
    results = found(jobs, options.folder)
    print("\n".join(lines(results)))
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(page, results), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=_names, help="kinds of runs, with commas between (all)")
    parser.add_argument("--means", type=_names, help="what intervenes, with commas between (all)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, with the seeds from 0 on (5)")
    parser.add_argument("--folder", type=Path, default=Path(".intervention"), help="where the runs are kept")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="0 trains nothing: the runs that are there"
    )
    parser.add_argument("--write", type=Path, help="a page to write the tables into, between its markers")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _jobs(of_kinds: Sequence[str] | None, of_means: Sequence[str] | None, seeds: int) -> Iterator[Job]:
    """The first seed of everything first, and trials of gains last: who has less time has the rest once."""
    # Long runs early: at the end, no processor waits for one of them.
    of_seed = sorted(kinds(), key=lambda kind: kind.tries)
    for seed in range(seeds):
        for tried in means():
            for kind in of_seed:
                if _wanted(kind, of_kinds) and _wanted(tried, of_means) and (kind.tries or not tried.trial):
                    yield Job(kind.name, tried.name, seed)


def _wanted(one: Kind | Means, names: Sequence[str] | None) -> bool:
    return names is None or one.name in names


def found(jobs: Iterable[Job], folder: Path) -> dict[tuple[str, str], list[Result]]:
    """The runs that are there, by kind and means."""
    by_name = {kind.name: kind for kind in kinds()}
    results: dict[tuple[str, str], list[Result]] = {}
    for job in jobs:
        path = job.path(folder)
        if path.exists():
            result = read_result(by_name[job.kind], job.seed, path)
            results.setdefault((job.kind, job.means), []).append(result)
    return results


def train_named(job: Job, folder: Path) -> None:
    """Train one run. Kind and means are looked up here, since what is read-only cannot be sent to a process."""
    (kind,) = (kind for kind in kinds() if kind.name == job.kind)
    (tried,) = (tried for tried in means() if tried.name == job.means)
    train_run(kind, tried, job.seed, job.path(folder))


def train_missing(jobs: Iterable[Job], options: argparse.Namespace) -> None:
    """Train the runs that are not there, one process each, and say how far that is."""
    missing = list(jobs)
    began = time.monotonic()
    # Spawned: a forked child inherits the threads of torch in whatever state they are.
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(train_named, job, options.folder): job for job in missing}
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            seconds = time.monotonic() - began
            print(f"{seconds:6.0f} s  {done}/{len(missing)}  {' '.join(map(str, futures[future]))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
