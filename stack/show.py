"""What ``make drill`` and ``make rescue`` share: options, servers, what is printed, and how they end."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.processes import Binaries, Process, Stack, StackError
from stack.servers import MissingServerError, find_alertmanager, find_server


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

    def has(self, pattern: str) -> bool:
        """Whether a line that matches ``pattern`` has been shown."""
        with self._changed:
            return any(re.search(pattern, line) for line in self._lines)

    def wait_for(self, pattern: str, seconds: float, unless: Callable[[], bool] = lambda: False) -> bool:
        """Whether a line matches ``pattern`` within ``seconds``, or until ``unless`` holds."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (found := self.has(pattern)):
                if unless() or time.monotonic() > deadline:
                    break
                self._changed.wait(1)
        return found


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a show plays: a folder, the servers, the options, and those for ``rl-train``."""

    folder: Path
    binaries: Binaries
    options: argparse.Namespace
    training: Sequence[str]

    def begin(self, stack: Stack) -> Transcript:
        """Start the servers of ``stack``, and say where they are."""
        transcript = Transcript()
        transcript.relay(stack.start_pages(relayed=True))
        stack.start_alertmanager()
        stack.start_prometheus()
        transcript.show(f"Prometheus: http://{stack.prometheus}  Alertmanager: http://{stack.alertmanager}")
        return transcript


def perform(
    name: str,
    description: str | None,
    play: Callable[[Scene], int],
    without_servers: Callable[[argparse.Namespace, Sequence[str], MissingServerError], int],
    arguments: Sequence[str] | None,
) -> int:
    """Play with the servers that are there. Returns what ``play`` returns; 2 with a line where servers fail."""
    options, training = _parser(name, description).parse_known_args(arguments)
    try:
        binaries = Binaries(
            prometheus=find_server("prometheus", "prometheus", options.servers),
            alertmanager=find_alertmanager(options.servers),
        )
    except MissingServerError as error:
        return without_servers(options, training, error)
    try:
        with tempfile.TemporaryDirectory(prefix=f"rl-{name}-") as folder:
            return play(Scene(Path(folder), binaries, options, training))
    except StackError as error:
        sys.stderr.write(f"{name}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False, description=description)
    parser.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    parser.add_argument("--faster", type=float, default=10.0, help="divides every interval of the servers")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds that the run waits after each update")
    return parser
