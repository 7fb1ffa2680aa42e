"""``rl-exporter watch``: finds the runs, and shows them on the terminal or prints them once."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import urllib3

from rl_exporter.client.addresses import DEFAULT_ADDRESS, Target, parse_target
from rl_exporter.client.fetch import Fetcher, tls_context
from rl_exporter.discovery.directory import DiscoveryError, read_directory, require_directory
from rl_exporter.panel.observed_run import ObservedRun, worst_first
from rl_exporter.panel.sources import Backoff, EndpointSource
from rl_exporter.view.document import json_line
from rl_exporter.view.layout import lay_out, plain_text
from rl_exporter.view.verdict import Status, worst

_PIPE_WIDTH = 120
_LOOKS_AT_ONCE = 16


class UsageError(ValueError):
    """Something asked for is not possible; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs that were asked for: some by address, some listed in a directory."""

    targets: Sequence[Target]
    directory: Path | None
    watched: Callable[[Target], ObservedRun]
    known: dict[str, ObservedRun]

    def discover(self) -> tuple[list[ObservedRun], list[str]]:
        """Every run that is asked for now, those known as they are, and what is wrong with the directory."""
        listed, problems = read_directory(self.directory) if self.directory else ([], [])
        targets = {target.url: target for target in (*self.targets, *listed)}
        for gone in self.known.keys() - targets.keys():
            del self.known[gone]
        for url, target in targets.items():
            if url not in self.known:
                self.known[url] = self.watched(target)
        return [self.known[url] for url in targets], problems


def watch(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    try:
        runs = _runs(options)
        if options.once:
            return _once(runs, as_json=options.json)
        _require_terminal(options)
    except (UsageError, DiscoveryError, ValueError) as error:
        sys.stderr.write(f"rl-exporter watch: error: {error}\n")
        return int(Status.NO_DATA)
    return _show(runs)


def _runs(options: argparse.Namespace) -> Runs:
    if options.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if options.targets is not None:
        require_directory(options.targets)
    fetcher = Fetcher(tls_context(options.ca_file, insecure=options.insecure), options.timeout)

    def watched(target: Target) -> ObservedRun:
        return ObservedRun(EndpointSource(target, fetcher), Backoff(options.interval), timeout=options.timeout)

    addresses = options.urls or ([] if options.targets is not None else [DEFAULT_ADDRESS])
    return Runs([_target(address) for address in addresses], options.targets, watched, {})


def _target(address: str) -> Target:
    if Path(address).is_dir():
        raise UsageError(f"{address!r} is a directory; write --targets {address}")
    return parse_target(address)


def _once(runs: Runs, *, as_json: bool) -> int:
    """Print every run, worst first; what cannot be had is a line on standard error."""
    watched, problems = runs.discover()
    asyncio.run(_look_at_all(watched))
    problems += [f"{run.source.name}: {run.problem}" for run in watched if run.problem]
    if not watched and not problems:
        problems = [f"no target is listed in {str(runs.directory)!r}"]
    for problem in problems:
        sys.stderr.write(f"rl-exporter watch: {problem}\n")
    seen = [run for run in worst_first(watched) if run.snapshot]
    _print((_json(run) for run in seen) if as_json else _texts(seen))
    return int(worst([run.status for run in watched] + [Status.NO_DATA] * len(problems)))


async def _look_at_all(watched: Iterable[ObservedRun]) -> None:
    slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def look(run: ObservedRun) -> None:
        async with slots:
            await run.look()

    await asyncio.gather(*map(look, watched))


def _json(run: ObservedRun) -> str:
    assert run.snapshot is not None
    return json_line(run.snapshot, run.source.name) + "\n"


def _texts(seen: Sequence[ObservedRun]) -> Iterable[str]:
    width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    for number, run in enumerate(seen):
        view = run.view()
        assert view is not None
        title = f"{run.source.name}\n" if len(seen) > 1 else ""
        yield ("\n" if number else "") + title + plain_text(lay_out(view, width))


def _print(parts: Iterable[str]) -> None:
    """Write to standard output, which may be in an encoding that lacks a symbol, or closed by its reader."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        for part in parts:
            sys.stdout.write(part)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _require_terminal(options: argparse.Namespace) -> None:
    if options.json:
        raise UsageError("--json prints once; write --once --json")
    if find_spec("textual") is None:
        raise UsageError("the panel needs textual: pip install 'rl-policy-exporter[tui]'; --once works without")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the panel needs a terminal; --once prints it as text")


def _show(runs: Runs) -> int:
    from rl_exporter.panel.app import WatchApp  # noqa: PLC0415 - textual may not be installed

    app = WatchApp((), runs.discover) if runs.directory else WatchApp(runs.discover()[0])
    app.run()
    return app.return_code or 0
