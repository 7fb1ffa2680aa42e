"""Measures what a GPU brings the trainer, beside one thread of the CPU and beside RecurrentPPO on the same GPU.

    python -m benchmarks.gpu --write docs/benchmarks.md

The trainers take turns in one process. Wall-clock time counts, from the first step of a rollout until the GPU
has done all of the update; a ratio is the median over the turns, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.marked_page import replaced
from benchmarks.trainer_speed.ours import OurTrainer
from benchmarks.trainer_speed.peers import Peer
from benchmarks.trainer_speed.setting import Setting

BEGIN, END = "<!-- gpu: begin -->\n", "<!-- gpu: end -->\n"
CPU, GPU = torch.device("cpu"), torch.device("cuda")
ON_GPU, ON_CPU = "rl-train --device cuda", "rl-train"
SILENT, LOWER, PEER = f"{ON_GPU} without telemetry", f"{ON_GPU} --precision bfloat16", "RecurrentPPO on the GPU"
WARM_UP = 1
"""Updates before the first measured one; cuDNN chooses its kernels in them."""


class Case(NamedTuple):
    """One size, and the trainers that finish an update of it within a minute."""

    setting: Setting
    trainers: Sequence[str]


EVERY = (ON_GPU, ON_CPU, SILENT, LOWER, PEER)
CASES = (
    Case(Setting(64), EVERY),
    Case(Setting(512), EVERY),
    Case(Setting(512, environments=128), (ON_GPU, ON_CPU, SILENT, LOWER)),
    Case(Setting(2048, environments=128), (ON_GPU, SILENT, LOWER)),
)
TRAINERS: Mapping[str, Callable[[Setting], Any]] = {
    ON_GPU: lambda setting: OurTrainer(setting, GPU),
    ON_CPU: lambda setting: OurTrainer(setting, CPU),
    SILENT: lambda setting: OurTrainer(setting, GPU, telemetry=False),
    LOWER: lambda setting: OurTrainer(setting, GPU, precision="bfloat16"),
    PEER: lambda setting: Peer(setting, recurrent=True, device=GPU),
}


def main() -> None:
    """Measure, print, and write the page where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU here; run this on a machine with one")
    torch.set_num_threads(1)
    table = report((case, seconds(case, options.turns)) for case in CASES)
    print(table)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(replaced(page, BEGIN, END, table), encoding="utf-8")


def seconds(case: Case, turns: int) -> dict[str, list[float]]:
    """Seconds of one update of each trainer, rollout included, in each turn."""
    trainers = {name: TRAINERS[name](case.setting) for name in case.trainers}
    for trainer in trainers.values():
        trainer.run(WARM_UP)
    found: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(turns):
        for name, trainer in trainers.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            trainer.run(1)
            torch.cuda.synchronize()
            found[name].append(time.perf_counter() - began)
    return found


def report(measured: Iterable[tuple[Case, Mapping[str, Sequence[float]]]]) -> str:
    """The table, in Markdown."""
    rows = "".join(line for case, found in measured for line in _rows(case.setting, found))
    return f"""\
_{torch.cuda.get_device_name()}, torch {torch.__version__}._

| units | environments | trainer | steps/s | an update | times `{ON_GPU}` |
| --- | --- | --- | --- | --- | --- |
{rows}"""


def _rows(setting: Setting, found: Mapping[str, Sequence[float]]) -> Iterable[str]:
    for name, own in found.items():
        rates = [first / other for first, other in zip(found[ON_GPU], own, strict=True)]
        middle = statistics.median(own)
        cells = (
            f"{setting.units}",
            f"{setting.environments}",
            f"`{name}`",
            f"{setting.steps / middle:,.0f}",
            f"{1e3 * middle:,.0f} ms",
            f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})",
        )
        yield f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
