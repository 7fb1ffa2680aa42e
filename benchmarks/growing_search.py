"""Searches for the best script for the growing network.

    python -m benchmarks.growing_search [--scripts 240] [--rounds 2] [--processes 2]

Every script plays a few episodes; the better third plays more. Then changed copies of the best compete with
them, for some rounds. growing_scripts.py keeps the first of those that this prints.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from benchmarks.growing_baselines import follow, returns
from benchmarks.growing_scripts import Planting, Script
from rl_training.action_space import AlphaTarget, Blueprint, Slot, Style, Tempo
from rl_training.environments.growing.environment import GrowingNetworkEnv

VALIDATION_SEED = 1_000_000
"""First seed of the episodes that the search judges scripts by. Reports use others, from 0 on."""

Value = TypeVar("Value")


def _random(generator: np.random.Generator) -> Script:
    """A script drawn from the whole space: one module of each kind, or a mixture."""
    count = int(generator.integers(1, len(Slot) + 1))
    slots = [Slot(int(index)) for index in generator.permutation(len(Slot))[:count]]
    first = _planting(generator, slots[0])
    alike = generator.random() < 0.5
    others = [replace(first, slot=slot) if alike else _planting(generator, slot) for slot in slots[1:]]
    return Script(
        (first, *others),
        hurry=bool(generator.integers(2)),
        training=_one_of(generator, (None, 1, 2, 3, 5)),
        blend=bool(generator.integers(2)),
        fossilize_from=_one_of(generator, (None, None, 6, 12, 18, 22, 25)),
    )


def _planting(generator: np.random.Generator, slot: Slot) -> Planting:
    grown = [blueprint for blueprint in Blueprint if blueprint is not Blueprint.NOOP]
    return Planting(
        slot,
        _one_of(generator, grown),
        _one_of(generator, tuple(Style)),
        _one_of(generator, tuple(Tempo)),
        _one_of(generator, tuple(AlphaTarget)),
        _one_of(generator, (0, 0, 0, 4, 8)),
    )


def _one_of(generator: np.random.Generator, choices: Sequence[Value]) -> Value:
    return choices[int(generator.integers(len(choices)))]


def _changed(script: Script, generator: np.random.Generator) -> Script:
    """A copy with one or two things drawn anew."""
    other = _random(generator)
    for _ in range(int(generator.integers(1, 3))):
        part = _one_of(
            generator, ("planting", "planting", "planting", "order", "hurry", "training", "blend", "fossils")
        )
        if part == "planting":
            script = _replanted(script, generator)
        elif part == "order":
            order = generator.permutation(len(script.plantings))
            script = replace(script, plantings=tuple(script.plantings[int(index)] for index in order))
        else:
            name = "fossilize_from" if part == "fossils" else part
            script = replace(script, **{name: getattr(other, name)})
    return script


def _replanted(script: Script, generator: np.random.Generator) -> Script:
    """Another module in one slot, which may have had none."""
    slot = Slot(int(generator.integers(len(Slot))))
    new = _planting(generator, slot)
    old = next((planting for planting in script.plantings if planting.slot is slot), None)
    if old is None:
        return replace(script, plantings=(*script.plantings, new))
    name = _one_of(generator, ("blueprint", "style", "tempo", "target", "at"))
    changed = replace(old, **{name: getattr(new, name)})
    plantings = tuple(changed if planting is old else planting for planting in script.plantings)
    return replace(script, plantings=plantings)


def _tried(seeds: Sequence[int], script: Script) -> list[float]:
    torch.set_num_threads(1)
    return returns(follow(script), GrowingNetworkEnv(), seeds)


class Search:
    """Keeps what every script has returned so far, so that no episode is played twice."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self.returns: dict[Script, list[float]] = {}

    def mean(self, script: Script) -> float:
        """Mean return over the episodes that the script has played."""
        return statistics.fmean(self.returns[script])

    def best(self, scripts: Iterable[Script], count: int, episodes: int) -> list[Script]:
        """The best of the scripts after each has played the first ``episodes`` validation episodes."""
        scripts = list(dict.fromkeys(scripts))
        for played in sorted({len(self.returns.get(script, [])) for script in scripts}):
            if played < episodes:
                behind = [script for script in scripts if len(self.returns.get(script, [])) == played]
                seeds = range(VALIDATION_SEED + played, VALIDATION_SEED + episodes)
                for script, found in zip(behind, self._pool.map(partial(_tried, seeds), behind), strict=True):
                    self.returns.setdefault(script, []).extend(found)
        return sorted(scripts, key=self.mean, reverse=True)[:count]


def search(pool: Executor, scripts: int, rounds: int, seed: int = 0) -> tuple[Search, list[Script]]:
    """Random scripts, then rounds of changed copies of the best: everything played, and the best scripts."""
    generator = np.random.default_rng(seed)
    found = Search(pool)
    best = [_random(generator) for _ in range(scripts)]
    for episodes in (1, 3, 8):
        best = found.best(best, max(8, len(best) // 3), episodes)
    for number in range(rounds):
        children = [_changed(script, generator) for script in best for _ in range(6)]
        promising = found.best([*best, *children], 20, 4)
        best = found.best(promising, 8, 12 + 4 * number)
        top = best[0]
        print(
            f"round {number + 1}: {len(found.returns)} scripts, best {found.mean(top):.2f} {top}",
            file=sys.stderr,
        )
    return found, best


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, and print the best scripts with their mean returns on the validation seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=int, default=240, help="random scripts to begin with")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of changed copies")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found, best = search(pool, options.scripts, options.rounds)
    print(f"{len(found.returns)} scripts, {sum(map(len, found.returns.values()))} episodes")
    for script in best:
        print(f"{found.mean(script):.3f}  {script}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
