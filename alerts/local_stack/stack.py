"""Start the servers on free ports, watch them, and leave nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_stack.configuration import ALERTMANAGER, PAGES, PROMETHEUS, Changes, write_configuration
from local_stack.servers import home

_START_SECONDS = 30.0


class StackError(RuntimeError):
    """A server did not start; the message names it and the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The executables of the servers."""

    prometheus: Path
    alertmanager: Path


def free_address() -> str:
    """An address on this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def answers(url: str) -> bool:
    """Whether a GET of ``url`` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class Stack:
    """The servers of one folder: ``prometheus/``, ``alerts/``, their data and logs."""

    def __init__(self, folder: Path, binaries: Binaries, *, faster: float = 1.0) -> None:
        self.folder = folder.resolve()
        self._binaries = binaries
        self._resend_delay = f"{round(60_000 / faster)}ms"
        self.prometheus, self.alertmanager, self.pages = (free_address() for _ in range(3))
        addresses = {PROMETHEUS: self.prometheus, ALERTMANAGER: self.alertmanager, PAGES: self.pages}
        self.changes = Changes(faster, addresses)
        write_configuration(folder, self.changes)
        self._running = ExitStack()

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start_prometheus(self) -> None:
        """Start Prometheus and wait until it is ready."""
        self.start(
            "prometheus",
            str(self._binaries.prometheus),
            f"--config.file={self.folder / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data/prometheus'}",
            f"--web.listen-address={self.prometheus}",
            f"--rules.alert.resend-delay={self._resend_delay}",
            ready=f"http://{self.prometheus}/-/ready",
        )

    def start_alertmanager(self) -> None:
        """Start Alertmanager and wait until it is ready."""
        self.start(
            "alertmanager",
            str(self._binaries.alertmanager),
            f"--config.file={self.folder / 'alerts/alertmanager.yml'}",
            f"--storage.path={self.folder / 'data/alertmanager'}",
            f"--web.listen-address={self.alertmanager}",
            "--cluster.listen-address=",
            ready=f"http://{self.alertmanager}/-/ready",
            cwd=home(self._binaries.alertmanager),
        )

    def start_pages(self, *, relayed: bool = False) -> Process:
        """Start ``rl-exporter pages``."""
        command = (sys.executable, "-c", "import sys; from rl_exporter.cli import main; sys.exit(main())")
        ready = f"http://{self.pages}/-/healthy"
        return self.start("pages", *command, "pages", "--listen", self.pages, ready=ready, relayed=relayed)

    def start(
        self, name: str, *command: str, ready: str = "", relayed: bool = False, cwd: Path | None = None
    ) -> Process:
        """Start a process that ends with the stack.

        Its output goes to a log; or, if it is to be ``relayed``, to a pipe, which the caller must read.
        """
        log = None if relayed else self.log_path(name)
        process = self._running.enter_context(_process(name, command, log, cwd))
        if ready:
            process.wait_until(lambda: answers(ready))
        return process

    def list_target(self, run: str, address: str, labels: Mapping[str, str] | None = None) -> Path:
        """Let Prometheus discover a run at ``address``; returns the discovery file."""
        path = self.folder / "prometheus" / "targets" / f"{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps([{"targets": [address], "labels": dict(labels or {})}]), encoding="utf-8")
        return partial.rename(path)

    def log_path(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.folder / f"{name}.log"


@dataclass(frozen=True, slots=True)
class Process:
    """A running child and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path | None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; StackError when the process ends first, or after half a minute."""
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-500:] if self.log else ""
                raise StackError(f"{self.name} did not start: {said.strip()}")
            time.sleep(0.1)


@contextmanager
def _process(name: str, command: tuple[str, ...], log: Path | None, cwd: Path | None) -> Iterator[Process]:
    with ExitStack() as files:
        out = files.enter_context(log.open("ab")) if log else subprocess.PIPE
        popen = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd
        )
        try:
            yield Process(name, popen, log)
        finally:
            popen.terminate()
            try:
                popen.wait(timeout=10)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
