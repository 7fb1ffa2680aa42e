"""``make drill``: a head of a run collapses, and the page arrives through the real servers on this machine."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from stack.processes import Stack, free_address
from stack.servers import MissingServerError
from stack.show import Scene, perform

_SHARED = (
    *("--env", "heads", "--env-arg", "paid_head=blueprint"),
    *("--env-arg", "safe_pay=0.9", "--env-arg", "delay=1"),
    *("--num-envs", "8", "--rollout-steps", "64", "--updates", "50"),
    *("--learning-rate", "3e-3", "--entropy-coef", "0.05"),
)
"""One action of blueprint always pays 0.9, and another pays 1 in each context: 14.4 of 16 without looking."""

DRILL = (*_SHARED, "--env-arg", "noise=8", "--entropy-multiplier", "blueprint=0", "--run-id", "drill")
"""Options of a run whose head blueprint collapses: useless inputs hide the context, and no bonus keeps the head
exploring, so that it settles for the safe action and never finds out what else pays.
"""

HEALTHY_TWIN = (*_SHARED, "--entropy-multiplier", "blueprint=3", "--run-id", "healthy-twin")
"""Options of a run that learns: its entropy falls as well, but it decides by the context and returns more."""

_RUN = "drill"
_ABOUT = r"  Head blueprint of run drill (has collapsed|is dead) "
"""A head that dies at once is only said to be dead: that inhibits the page that it has collapsed."""
_PAGE, _RESOLVED = f"CRITICAL{_ABOUT}", f"RESOLVED{_ABOUT}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 if the page arrived, and resolved at the end of the run."""
    return perform("drill", __doc__, _drill, _alone, arguments)


def _alone(options: argparse.Namespace, training: Sequence[str], error: MissingServerError) -> int:
    sys.stderr.write(f"drill: no page will arrive: {error}; the run alone:\n")
    return subprocess.call(_trainer(options, "127.0.0.1:0", training))


def _trainer(options: argparse.Namespace, address: str, training: Sequence[str]) -> tuple[str, ...]:
    pace = ("--pace", str(options.pace), "--listen", address)
    return (sys.executable, "-m", "rl_training", *DRILL, *pace, *training)


def _drill(scene: Scene) -> int:
    options = scene.options
    with Stack(scene.folder, scene.binaries, faster=options.faster) as stack:
        transcript = scene.begin(stack)
        transcript.show(
            f"every interval is {options.faster:g} times shorter: a minute is {60 / options.faster:g} s"
        )
        address = free_address()
        stack.list_target(_RUN, address)
        command = _trainer(options, address, scene.training)
        transcript.show(f"$ rl-train {shlex.join(command[3:])}")
        trainer = stack.start("trainer", *command, relayed=True)
        transcript.relay(trainer)
        paged = transcript.wait_for(_PAGE, 300, unless=lambda: bool(trainer.popen.poll()))
        status = trainer.popen.wait()
        resolved = paged and transcript.wait_for(_RESOLVED, 300 / options.faster * 2 + 30)
        transcript.show("the page came and went" if paged and resolved else "the page did not arrive")
        if sys.stdin.isatty() and sys.stdout.isatty():
            transcript.show("the servers stay up until Ctrl-C")
            while True:
                time.sleep(60)
        return status or int(not (paged and resolved))


if __name__ == "__main__":
    sys.exit(main())
