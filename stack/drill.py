"""``make drill``: a head of a run collapses, and the page arrives through the real servers on this machine."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from stack.processes import Binaries, Process, Stack, StackError, free_address
from stack.servers import MissingServerError, find_alertmanager, find_server

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
_COLLAPSED = "Head blueprint of run drill has collapsed"
_PAGE, _RESOLVED = f"CRITICAL  {_COLLAPSED}", f"RESOLVED  {_COLLAPSED}"


class Transcript:
    """Prints the output of processes line by line, and keeps it to wait for a line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()

    def relay(self, process: Process) -> None:
        """Print the lines of a process, from a new thread."""
        threading.Thread(target=self._relay, args=(process,), daemon=True).start()

    def _relay(self, process: Process) -> None:
        for raw in process.popen.stdout or ():
            self.show(raw.decode(errors="replace").rstrip("\n"))

    def show(self, line: str) -> None:
        """Print and keep one line."""
        with self._changed:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            self._lines.append(line)
            self._changed.notify_all()

    def has(self, text: str) -> bool:
        """Whether a line with ``text`` has been shown."""
        with self._changed:
            return any(text in line for line in self._lines)

    def wait_for(self, text: str, seconds: float) -> bool:
        """Wait up to ``seconds`` for a line with ``text``. Returns whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: any(text in line for line in self._lines), seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 if the page arrived, and resolved at the end of the run."""
    options, training = _parser().parse_known_args(arguments)
    try:
        binaries = Binaries(
            prometheus=find_server("prometheus", "prometheus", options.servers),
            alertmanager=find_alertmanager(options.servers),
        )
    except MissingServerError as error:
        sys.stderr.write(f"drill: no page will arrive: {error}; the run alone:\n")
        return subprocess.call(_trainer(options, "127.0.0.1:0", training))
    try:
        with tempfile.TemporaryDirectory(prefix="rl-drill-") as folder:
            return _drill(Path(folder), binaries, options, training)
    except StackError as error:
        sys.stderr.write(f"drill: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drill", allow_abbrev=False, description=__doc__)
    parser.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    parser.add_argument("--faster", type=float, default=10.0, help="divides every interval of the servers")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds that the run waits after each update")
    return parser


def _trainer(options: argparse.Namespace, address: str, training: Sequence[str]) -> tuple[str, ...]:
    pace = ("--pace", str(options.pace), "--listen", address)
    return (sys.executable, "-m", "rl_training", *DRILL, *pace, *training)


def _drill(folder: Path, binaries: Binaries, options: argparse.Namespace, training: Sequence[str]) -> int:
    transcript = Transcript()
    with Stack(folder, binaries, faster=options.faster) as stack:
        transcript.relay(stack.start_pages(relayed=True))
        stack.start_alertmanager()
        stack.start_prometheus()
        transcript.show(f"Prometheus: http://{stack.prometheus}  Alertmanager: http://{stack.alertmanager}")
        transcript.show(
            f"every interval is {options.faster:g} times shorter: a minute is {60 / options.faster:g} s"
        )
        address = free_address()
        stack.list_target(_RUN, address)
        command = _trainer(options, address, training)
        transcript.show(f"$ rl-train {shlex.join(command[3:])}")
        trainer = stack.start("trainer", *command, relayed=True)
        transcript.relay(trainer)
        paged = transcript.wait_for(_PAGE, 300)
        status = trainer.popen.wait()
        resolved = transcript.wait_for(_RESOLVED, 300 / options.faster * 2 + 30)
        transcript.show("the page came and went" if paged and resolved else "the page did not arrive")
        if sys.stdin.isatty() and sys.stdout.isatty():
            transcript.show("the servers stay up until Ctrl-C")
            while True:
                time.sleep(60)
        return status or int(not (paged and resolved))


if __name__ == "__main__":
    sys.exit(main())
