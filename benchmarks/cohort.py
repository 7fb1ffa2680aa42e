"""Trains a labelled cohort of runs, replays their logs through four rules, and writes docs/verdict.md.

    python -m benchmarks.cohort --runs quick
    python -m benchmarks.cohort --runs all --write docs/verdict.md --picture docs/verdict.svg
    python -m benchmarks.cohort --runs all --critic own --write docs/verdict.md
    python -m benchmarks.cohort --runs all --promtool .servers/usr/bin/promtool

A run whose log is there is not trained again, so that an interrupted cohort goes on where it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.cohort_runs.judgement import Result
from benchmarks.cohort_runs.kinds import FIRST_SEED, recipes, runs
from benchmarks.cohort_runs.log import read_log
from benchmarks.cohort_runs.promtool import difference
from benchmarks.cohort_runs.recipe import Recipe
from benchmarks.cohort_runs.replay import PERIODS
from benchmarks.cohort_runs.report import tables, written
from benchmarks.cohort_runs.training import train_run
from rl_training.setting_kinds import Critic

ROOT = Path(__file__).parents[1]

FOLDERS = {"shared": "", "own": "own"}
"""Where the logs of runs with each critic lie."""

QUICK = ("drill-blueprint", "solved-6-contexts", "healthy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 2 for a kind that does not exist."""
    options = _parser().parse_args(arguments)
    wanted = _chosen(options.runs, options.critic)
    if not wanted:
        names = ", ".join(recipe.name for recipe in recipes(options.critic))
        sys.stderr.write(f"cohort: error: no kind {options.runs!r}; give all, quick, or some of {names}\n")
        return 2
    folder = options.folder / FOLDERS[options.critic]
    folder.mkdir(parents=True, exist_ok=True)
    if options.processes:
        train_missing(wanted, folder, options.processes)
    else:
        wanted = tuple(run for run in wanted if log_path(folder, *run).exists())
    results = _results(wanted, folder)
    if options.promtool:
        return compare_with_rules(results, options.promtool)
    print(tables(results))
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(page, results, options.critic), encoding="utf-8")
    if options.picture:
        from benchmarks.cohort_runs.picture import draw  # noqa: PLC0415 - matplotlib is for the picture alone

        draw(results, options.picture)
    return 0


def _results(wanted: Iterable[tuple[Recipe, int]], folder: Path) -> list[Result]:
    """The runs that ended as their recipe says; what became of the others is printed."""
    results = [Result(recipe, seed, read_log(log_path(folder, recipe, seed))) for recipe, seed in wanted]
    for result in results:
        if not result.of_its_kind:
            final = result.log.updates[-1].episode_return
            print(f"left out: {result.recipe.name}-{result.seed} ended at a return of {final}")
    return [result for result in results if result.of_its_kind]


def compare_with_rules(results: Iterable[Result], promtool: Path) -> int:
    """Replay the first run of each kind through the shipped rules. Returns 1 where they differ."""
    differences = 0
    for result in (result for result in results if result.seed == FIRST_SEED):
        for period in PERIODS[:2]:
            with tempfile.TemporaryDirectory() as folder:
                found = difference(result.log, period, promtool, ROOT, Path(folder))
            differences += bool(found)
            print(f"{result.recipe.name}, {period:g} s: {found or 'the rules agree'}", flush=True)
    return int(differences > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="quick", help="all, quick, or names of kinds with commas between")
    parser.add_argument("--critic", choices=FOLDERS, default="shared", help="critic of the runs (shared)")
    parser.add_argument("--folder", type=Path, default=Path(".cohort"), help="where the logs are kept")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="0 trains nothing: the logs that are there"
    )
    parser.add_argument("--write", type=Path, help="a page to write the tables into, between its markers")
    parser.add_argument("--promtool", type=Path, help="hold the replay to the rules, with this promtool")
    parser.add_argument("--picture", type=Path, help="where to draw the SVG")
    return parser


def _chosen(names: str, critic: Critic) -> tuple[tuple[Recipe, int], ...]:
    if names == "all":
        return runs(recipes(critic))
    picked = QUICK if names == "quick" else tuple(names.split(","))
    found = tuple(recipe for recipe in recipes(critic) if recipe.name in picked)
    every = runs(found) if len(found) == len(picked) else ()
    return tuple(run for run in every if names != "quick" or run[1] == FIRST_SEED)


def log_path(folder: Path, recipe: Recipe, seed: int) -> Path:
    """Where the log of a run is kept."""
    return folder / f"{recipe.name}-{seed}.jsonl"


def train_kind(name: str, critic: Critic, seed: int, log: Path) -> None:
    """Train one run. The recipe is looked up here, since what is read-only cannot be sent to a process."""
    (recipe,) = (recipe for recipe in recipes(critic) if recipe.name == name)
    train_run(recipe, seed, log)


def train_missing(wanted: Iterable[tuple[Recipe, int]], folder: Path, processes: int) -> None:
    """Train the runs that have no log yet."""
    missing = [run for run in wanted if not log_path(folder, *run).exists()]
    # The first seed of every kind first: whoever has less time has all kinds.
    missing.sort(key=lambda run: run[1])
    began = time.monotonic()
    # Spawned: a forked child inherits the threads of torch in whatever state they are.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(
                train_kind, recipe.name, recipe.learning.critic, seed, log_path(folder, recipe, seed)
            ): f"{recipe.name}-{seed}"
            for recipe, seed in missing
        }
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            seconds = time.monotonic() - began
            print(f"{seconds:6.0f} s  {done}/{len(missing)}  {futures[future]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
