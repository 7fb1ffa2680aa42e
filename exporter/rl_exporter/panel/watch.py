"""``rl-exporter watch``: finds the runs, and shows them in the panel or prints them once."""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import urllib3

from rl_exporter.client.addresses import DEFAULT_ADDRESS, EXAMPLE, Target, parse_target
from rl_exporter.client.fetch import Credentials, Fetcher, read_credentials, tls_context
from rl_exporter.discovery.directory import DiscoveryError, read_directory, require_directory
from rl_exporter.notify.destination import Destination
from rl_exporter.panel.observed_run import ObservedRun, worst_first
from rl_exporter.panel.sources import Backoff, EndpointSource
from rl_exporter.standard_streams import discard_output
from rl_exporter.view.document import json_line
from rl_exporter.view.layout import lay_out, plain_text
from rl_exporter.view.verdict import Status, worst

_PIPE_WIDTH = 120
"""Columns where standard output is no terminal, which has no width."""

_CONCURRENT_POLLS = 16


class UsageError(ValueError):
    """The options ask for what cannot be done. The message says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class RunSelection:
    """The runs that the user asked for: some by address, some listed in a directory of target files."""

    targets: Sequence[Target]
    directory: Path | None
    observe: Callable[[Target], ObservedRun]
    observed: dict[str, ObservedRun]
    """By URL. A run stays the same object between two scans, so that it keeps its history."""

    def discover(self) -> tuple[list[ObservedRun], list[str]]:
        """Scan the directory. Returns the runs that are selected now, and the problems of the directory.

        While it has problems, as with a file that somebody is writing, a run that it lacks is not forgotten.
        """
        listed, problems = read_directory(self.directory) if self.directory else ([], [])
        # By URL, because several files may list one run.
        targets = {target.url: target for target in (*self.targets, *listed)}
        for gone in self.observed.keys() - targets.keys() if not problems else ():
            del self.observed[gone]
        for url, target in targets.items():
            if url not in self.observed:
                self.observed[url] = self.observe(target)
        return [self.observed[url] for url in targets], problems


def watch(options: argparse.Namespace) -> int:
    """Show the panel or print once, as the options say. Returns the exit status."""
    try:
        if options.notify and (options.once or options.json):
            raise UsageError("--notify watches until Ctrl-C; leave out --once and --json")
        selection = _selection(options)
        if options.once:
            return _print_once(selection, as_json=options.json)
        if options.notify:
            return _notify(selection, options.notify)
        _require_terminal(options)
    except (UsageError, DiscoveryError, ValueError) as error:
        sys.stderr.write(f"rl-exporter watch: error: {error}\n")
        return int(Status.NO_DATA)
    return _run_panel(selection)


def _notify(selection: RunSelection, destinations: Sequence[Destination]) -> int:
    from rl_exporter.panel.unattended import UnattendedWatch  # noqa: PLC0415 - few need it

    UnattendedWatch(selection.discover, destinations).run()
    return int(Status.HEALTHY)


def _selection(options: argparse.Namespace) -> RunSelection:
    if options.insecure:
        # The user has asked for it; a warning for each request would cover the panel.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if options.targets is not None:
        require_directory(options.targets)
    # A panel may miss how a run ends; who pages for its loss must not.
    fetcher = Fetcher.showing(_credentials(options), options.timeout, awaited=bool(options.notify))

    def observe(target: Target) -> ObservedRun:
        return ObservedRun(EndpointSource(target, fetcher), Backoff(options.interval), timeout=options.timeout)

    addresses = options.urls or ([] if options.targets is not None else [DEFAULT_ADDRESS])
    return RunSelection([_target(address) for address in addresses], options.targets, observe, {})


def _credentials(options: argparse.Namespace) -> Credentials:
    if options.http_config is None:
        return Credentials(tls_context(options.ca_file, insecure=options.insecure))
    if options.ca_file is not None or options.insecure:
        raise UsageError(
            "--http.config.file says whom to trust (tls_config); leave out --ca-file and --insecure"
        )
    return read_credentials(options.http_config)


def _target(address: str) -> Target:
    if not address.strip():  # an unset variable, say
        raise UsageError(
            f"the address of a run is empty; write {EXAMPLE}, or leave it out for {DEFAULT_ADDRESS}"
        )
    if Path(address).is_dir():
        raise UsageError(f"{address!r} is a directory; write --targets {address}")
    return parse_target(address)


def _print_once(selection: RunSelection, *, as_json: bool) -> int:
    """Print every run that answers, worst first, and every problem on standard error."""
    runs, problems = selection.discover()
    asyncio.run(_poll_all(runs))
    problems += [f"{run.source.name}: {run.problem}" for run in runs if run.problem]
    if not runs and not problems:
        problems = [f"no target is listed in {str(selection.directory)!r}"]
    for problem in problems:
        sys.stderr.write(f"rl-exporter watch: {problem}\n")
    answered = [run for run in worst_first(runs) if run.snapshot]
    _print((_json(run) for run in answered) if as_json else _panel_texts(answered))
    return int(worst([run.status for run in runs] + [Status.NO_DATA] * len(problems)))


async def _poll_all(runs: Iterable[ObservedRun]) -> None:
    slots = asyncio.Semaphore(_CONCURRENT_POLLS)

    async def poll(run: ObservedRun) -> None:
        async with slots:
            await run.poll()

    await asyncio.gather(*map(poll, runs))


def _json(run: ObservedRun) -> str:
    assert run.snapshot is not None
    return json_line(run.snapshot, run.source.name) + "\n"


def _panel_texts(runs: Sequence[ObservedRun]) -> Iterable[str]:
    width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    for number, run in enumerate(runs):
        view = run.view()
        assert view is not None
        title = f"{run.source.name}\n" if len(runs) > 1 else ""
        yield ("\n" if number else "") + title + plain_text(lay_out(view, width))


def _print(parts: Iterable[str]) -> None:
    """Write to standard output, whose encoding may lack a symbol, and whose reader (head) may close it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        for part in parts:
            sys.stdout.write(part)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def _require_terminal(options: argparse.Namespace) -> None:
    if options.json:
        raise UsageError("--json prints once; write --once --json")
    if find_spec("textual") is None:
        raise UsageError("the panel needs textual: pip install 'rl-policy-exporter[tui]'; --once works without")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the panel needs a terminal; --once prints it as text")


def _run_panel(selection: RunSelection) -> int:
    from rl_exporter.panel.app import WatchApp  # noqa: PLC0415 - textual may not be installed

    app = WatchApp((), selection.discover) if selection.directory else WatchApp(selection.discover()[0])
    app.run()
    return app.return_code or 0
