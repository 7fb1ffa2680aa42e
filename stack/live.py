"""``make stack``: runs the trainer and the installed servers until Ctrl-C, and leaves nothing behind."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_exporter.alerting.rewriting import GRAFANA_URL
from rl_exporter.server.listen import DEFAULT_PORT
from stack.configuration import ALERTMANAGER, PAGES, PROMETHEUS
from stack.grafana import find_grafana
from stack.processes import Addresses, Binaries, Process, Stack, StackError, is_free
from stack.servers import MissingServerError, find_alertmanager, find_server

_GRAFANA = GRAFANA_URL.removeprefix("http://")
_TRAINING = ("--env", "heads", "--updates", "2000000000", "--run-id", "stack", "--pace", "1", "--linger", "5")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 after Ctrl-C, 2 if something cannot start, 1 if a server ends unasked."""
    options, training = _parser().parse_known_args(arguments)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a background job of a shell ignores SIGINT unless a handler is set
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="rl-stack-") as folder:
            return _live(Path(folder), options, training)
    except StackError as error:
        sys.stderr.write(f"stack: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stack", allow_abbrev=False, description=__doc__, epilog="Other options go to rl-train."
    )
    for name, default in (
        ("grafana", _GRAFANA),
        ("prometheus", PROMETHEUS),
        ("alertmanager", ALERTMANAGER),
        ("pages", PAGES),
        ("trainer", f"127.0.0.1:{DEFAULT_PORT}"),
    ):
        parser.add_argument(f"--{name}", default=default, metavar="HOST:PORT", help=f"its address ({default})")
    parser.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    parser.add_argument("--grafana-home", default=os.environ.get("GRAFANA_HOME"), help="a Grafana tree")
    return parser


def _found(name: str, find: Any, *names: Any) -> Path | None:
    try:
        return Path(find(*names))
    except MissingServerError as error:
        sys.stdout.write(f"{name:<13} missing: {error}\n")
        return None


def _live(folder: Path, options: argparse.Namespace, training: Sequence[str]) -> int:
    prometheus = _found("Prometheus", find_server, "prometheus", "prometheus", options.servers)
    alertmanager = _found("Alertmanager", find_alertmanager, options.servers)
    grafana = _found("Grafana", find_grafana, options.grafana_home)
    addresses = Addresses(options.prometheus, options.alertmanager, options.pages, options.grafana)
    starting = {"trainer": options.trainer, "pages": options.pages}
    starting |= {"prometheus": options.prometheus} if prometheus else {}
    starting |= {"alertmanager": options.alertmanager} if alertmanager else {}
    starting |= {"grafana": options.grafana} if grafana else {}
    _require_free(starting)
    binaries = Binaries(prometheus=prometheus, alertmanager=alertmanager, grafana=grafana)
    with Stack(folder, binaries, addresses=addresses) as stack:
        processes = [stack.start_pages()]
        if alertmanager:
            processes.append(stack.start_alertmanager())
        if prometheus:
            processes.append(stack.start_prometheus())
        if grafana:
            processes.append(stack.start_grafana())
        stack.list_target("stack", options.trainer, {"cluster": "local"})
        processes.append(_trainer(stack, options.trainer, training))
        _announce(starting)
        return _watch(processes)


def _require_free(starting: dict[str, str]) -> None:
    for name, address in starting.items():
        if not is_free(address):
            raise StackError(
                f"{address}, the address of {name}, is in use or not of this machine; stop what listens there, "
                f"or give another: make stack ARGS='--{name} 127.0.0.1:PORT'"
            )


def _trainer(stack: Stack, address: str, training: Sequence[str]) -> Process:
    command = (sys.executable, "-m", "rl_training", "--listen", address, "--quiet", *_TRAINING, *training)
    inside = os.environ | {
        "TMPDIR": str(stack.folder)
    }  # torch leaves a folder in it, and the stack removes its own
    trainer = stack.start("trainer", *command, ready=f"http://{address}/-/healthy", environment=inside)
    sys.stdout.write(f"$ rl-train {shlex.join(command[3:])}\n")
    return trainer


def _announce(starting: dict[str, str]) -> None:
    pages = {"trainer": "/metrics", "pages": "/runbooks/"}
    for name, address in reversed(starting.items()):
        sys.stdout.write(f"{name:<13} http://{address}{pages.get(name, '/')}\n")
    sys.stdout.write("everything stays up until Ctrl-C\n")
    sys.stdout.flush()


def _watch(processes: list[Process]) -> int:
    """Wait for Ctrl-C. The trainer may complete; any other process that ends is an error."""
    while True:
        time.sleep(0.3)
        for process in processes:
            status = process.popen.poll()
            if status is None:
                continue
            said = process.log.read_text(errors="replace")[-500:].strip() if process.log else ""
            if process.name != "trainer" or status:
                sys.stderr.write(f"stack: error: {process.name} ended with status {status}: {said}\n")
                return 1
            sys.stdout.write("the run has ended; the servers stay up until Ctrl-C\n")
            sys.stdout.flush()
            processes.remove(process)
            break


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
