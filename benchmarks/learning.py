"""Trains ``rl-train`` and its peers on the same rows, and writes the table and the picture of docs/learning.md.

    python -m benchmarks.learning --rows heads,cartpole --seeds 5
    python -m benchmarks.learning --rows growing --who ours --write docs
    python -m benchmarks.learning --rows heads --who ours --set learning-rate=1e-3 --set entropy-coef=0.003

A run whose log is there is not trained again, unless its effective settings have changed since. The mean
return of the last 100 finished episodes at the end of a run counts; incomplete runs leave no log. ``--write``
puts what the runs came to into learning.json, beside what that has of other rows and trainers, and writes the
page and the picture from all of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning_runs.jobs import found, jobs, train_missing, variants
from benchmarks.learning_runs.ours import command
from benchmarks.learning_runs.report import text, written
from benchmarks.learning_runs.results import Result, merged, of_now, read, results, write
from benchmarks.learning_runs.rows import Row, rows, settings_of
from rl_training.run.settings import SettingsError

RESULTS, PAGE, PICTURE = "learning.json", "learning.md", "learning.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 2 for bad input, 1 where a run failed."""
    options = _parser().parse_args(arguments)
    chosen = _chosen(options.rows)
    if problem := _problem(options, chosen):
        sys.stderr.write(f"learning: error: {problem}\n")
        return 2
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = jobs(chosen, options.who.split(","), options.seeds, options.set)
    failures = 0
    if options.processes:
        there = found(wanted, folder, strict=options.strict)
        failures = train_missing([job for job in wanted if job not in there], folder, options.processes)
    logs = found(jobs(chosen, ("ours", "peers"), options.seeds, ()), folder, strict=options.strict)
    print(text(chosen, logs | found(variants(chosen, folder, options.seeds), folder, strict=options.strict)))
    if options.write:
        # Kept results that no longer count go first: none of theirs may stand in the way of a new one.
        _write(options.write, merged(of_now(read(options.write / RESULTS)), results(chosen, logs)))
    return int(failures > 0)


def _write(folder: Path, every: Sequence[Result]) -> None:
    """Write the results, and from them the page and the picture."""
    from benchmarks.learning_runs.picture import draw  # noqa: PLC0415 - matplotlib is for the picture alone

    write(folder / RESULTS, every)
    page = folder / PAGE
    page.write_text(written(page.read_text(encoding="utf-8"), rows(), every), encoding="utf-8")
    draw(rows(), every, folder / PICTURE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(row.name for row in rows())
    parser.add_argument(
        "--rows", default="quick", help=f"all, quick (without the growing network), or some of {names}"
    )
    parser.add_argument("--who", default="ours,peers", help="whose runs to train: ours, peers, names of peers")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, with the seeds from 0 on (5)")
    parser.add_argument("--folder", type=Path, default=Path(".learning"), help="where the logs are kept")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="0 trains nothing: the logs that are there"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of rl-train, without its dashes, for an experiment; may be repeated",
    )
    parser.add_argument("--strict", action="store_true", help="train again what other sources have made")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="write learning.json, learning.md (between its markers) and learning.svg in this folder",
    )
    return parser


def _chosen(names: str) -> tuple[Row, ...]:
    """The rows of these names, in the order of the page; none where a name is unknown."""
    every = rows()
    if names == "all":
        return every
    if names == "quick":
        return tuple(row for row in every if not row.slow)
    picked = names.split(",")
    known = {row.name for row in every}
    return tuple(row for row in every if row.name in picked) if known.issuperset(picked) else ()


def _problem(options: argparse.Namespace, chosen: Sequence[Row]) -> str:
    """What is wrong with the options; empty where nothing is."""
    if not chosen:
        names = ", ".join(row.name for row in rows())
        return f"--rows {options.rows}: no such row; give all, quick, or some of {names}"
    everybody = dict.fromkeys(("ours", "peers", *(peer for row in rows() for peer in row.peers)))
    if not set(everybody).issuperset(options.who.split(",")):
        return f"--who {options.who}: nobody of that name; give some of {', '.join(everybody)}"
    if options.seeds < 1 or options.processes < 0:
        return "--seeds must be 1 or more, and --processes 0 or more"
    if broken := [pair for pair in options.set if "=" not in pair]:
        return f"--set {broken[0]}: not KEY=VALUE; write for example learning-rate=1e-3"
    return _impossible_page(options) or _impossible_settings(chosen, options.set)


def _impossible_page(options: argparse.Namespace) -> str:
    if options.write and options.set:
        return "--write and --set exclude each other: the page compares the settings of the rows"
    if options.write and not (options.write / PAGE).is_file():
        return f"--write {options.write}: there is no {PAGE} in this folder; give docs"
    return ""


def _impossible_settings(chosen: Sequence[Row], overrides: Sequence[str]) -> str:
    """What ``rl-train`` has against the settings. Its parser ends the program for an option that it lacks."""
    try:
        for row in chosen:
            settings_of(command(row, overrides, 0))
    except SettingsError as error:
        return f"--set: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
