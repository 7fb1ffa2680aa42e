"""Starts servers on free ports and stops them, leaving nothing behind."""

from __future__ import annotations

import errno
import os
import random
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

from rl_exporter.discovery.file_sd import TargetGroup, dump_groups, replace_file
from stack.configuration import ALERTMANAGER, PAGES, PROMETHEUS, Changes, write_configuration
from stack.grafana import grafana_command, grafana_environment
from stack.servers import home

_START_SECONDS = 30.0
_GRAFANA_START_SECONDS = 180.0
"""Grafana's first start runs hundreds of database migrations."""


class StackError(RuntimeError):
    """A server did not start. The message names it and quotes the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The executables of the servers. None: not installed."""

    prometheus: Path | None = None
    alertmanager: Path | None = None
    grafana: Path | None = None
    """The folder of the release."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers listen."""

    prometheus: str
    alertmanager: str
    pages: str
    grafana: str

    @classmethod
    def free(cls) -> Addresses:
        """Addresses where nothing listens now."""
        return cls(*(free_address() for _ in range(4)))


def is_free(address: str) -> bool:
    """Whether a server on this machine could listen on ``address`` now."""
    host, _, port = address.rpartition(":")
    try:
        with socket.socket() as probe:
            # As the servers do: to them a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, ValueError, OverflowError):
        return False
    return True


_PORTS = range(12_000, 28_000)
"""Below those that systems give to connections, which could take a port before a server listens there."""


def free_address() -> str:
    """An address on this machine where nothing listens now. Raises OSError where there is none."""
    # Not the seeded generator, from which another process would draw the same ports.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        address = f"127.0.0.1:{port}"
        if is_free(address):
            return address
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def answers(url: str) -> bool:
    """Whether a GET of ``url`` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class Stack:
    """Servers that share one folder for configuration, data and logs. The end of the block stops them."""

    def __init__(
        self, folder: Path, binaries: Binaries, *, faster: float = 1.0, addresses: Addresses | None = None
    ) -> None:
        self.folder = folder.resolve()
        self._binaries = binaries
        # An interval as well: Prometheus sends a firing alert again after this time.
        self._resend_delay = f"{round(60_000 / faster)}ms"
        chosen = addresses or Addresses.free()
        self.prometheus, self.alertmanager = chosen.prometheus, chosen.alertmanager
        self.pages, self.grafana = chosen.pages, chosen.grafana
        moved = {PROMETHEUS: self.prometheus, ALERTMANAGER: self.alertmanager, PAGES: self.pages}
        self.changes = Changes(faster, moved)
        write_configuration(folder, self.changes)
        self._running = ExitStack()

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start_prometheus(self, *options: str) -> Process:
        """Start Prometheus, with further options of its own, and wait until it is ready."""
        assert self._binaries.prometheus
        return self.start(
            "prometheus",
            str(self._binaries.prometheus),
            f"--config.file={self.folder / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data/prometheus'}",
            f"--web.listen-address={self.prometheus}",
            f"--rules.alert.resend-delay={self._resend_delay}",
            *options,
            ready=f"http://{self.prometheus}/-/ready",
        )

    def start_alertmanager(self) -> Process:
        """Start Alertmanager and wait until it is ready."""
        assert self._binaries.alertmanager
        return self.start(
            "alertmanager",
            str(self._binaries.alertmanager),
            f"--config.file={self.folder / 'alerts/alertmanager.yml'}",
            f"--storage.path={self.folder / 'data/alertmanager'}",
            f"--web.listen-address={self.alertmanager}",
            # No gossip: a second Alertmanager on this machine would want the same port.
            "--cluster.listen-address=",
            ready=f"http://{self.alertmanager}/-/ready",
            cwd=home(self._binaries.alertmanager),
        )

    def start_grafana(self) -> Process:
        """Start Grafana, with the data source and the dashboards, and wait until it is ready."""
        assert self._binaries.grafana
        return self.start(
            "grafana",
            *grafana_command(self._binaries.grafana),
            ready=f"http://{self.grafana}/api/health",
            cwd=self._binaries.grafana,
            environment=grafana_environment(self.grafana, self.prometheus, self.folder / "data/grafana"),
            seconds=_GRAFANA_START_SECONDS,
        )

    def start_pages(self, *options: str, relayed: bool = False) -> Process:
        """Start ``rl-exporter pages``."""
        command = (sys.executable, "-c", "import sys; from rl_exporter.cli.main import main; sys.exit(main())")
        ready = f"http://{self.pages}/-/healthy"
        return self.start(
            "pages", *command, "pages", "--listen", self.pages, *options, ready=ready, relayed=relayed
        )

    def start(
        self,
        name: str,
        *command: str,
        ready: str = "",
        relayed: bool = False,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        seconds: float = _START_SECONDS,
    ) -> Process:
        """Start a process that ends with the stack, and wait until the URL ``ready`` answers.

        Its output goes to a log file. With ``relayed`` it goes to a pipe instead; the caller must read it, or
        the process blocks.
        """
        log = None if relayed else self.log_path(name)
        process = self._running.enter_context(_process(name, command, log, cwd, environment))
        if ready:
            process.wait_until(lambda: answers(ready), seconds)
        return process

    def list_target(self, run: str, address: str, labels: Mapping[str, str] | None = None) -> Path:
        """Make Prometheus discover a run at ``address``. Returns the target file."""
        path = self.folder / "prometheus" / "targets" / f"{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, dump_groups(TargetGroup([address], labels or {})))
        return path

    def log_path(self, name: str) -> Path:
        """Path of a process's log."""
        return self.folder / f"{name}.log"


@dataclass(frozen=True, slots=True)
class Process:
    """A child process and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path | None

    def wait_until(self, condition: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
        """Wait for a condition. Raises StackError if the process ends before it, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-500:] if self.log else ""
                raise StackError(f"{self.name} did not start: {said.strip()}")
            time.sleep(0.1)


@contextmanager
def _process(
    name: str,
    command: tuple[str, ...],
    log: Path | None,
    cwd: Path | None,
    environment: Mapping[str, str] | None,
) -> Iterator[Process]:
    with ExitStack() as files:
        out = files.enter_context(log.open("ab")) if log else subprocess.PIPE
        popen = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd, env=environment
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
