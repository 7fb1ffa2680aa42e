"""The console script ``rl-exporter``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from rl_exporter.collector import DISTRIBUTION
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from rl_exporter.panel import command as watch


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that answers bad usage with one line and ``usage_status``."""

    usage_status = 2

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is not known, here rather than in the root parser: a command has a status of its own."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print the reason and the remedy, and exit."""
        self.exit(self.usage_status, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def metrics_table() -> str:
    """Every metric as a Markdown table: those of a run, then what the exporter says of itself."""
    run = ((m.name, m.kind, m.labels, m.help) for m in (*UPDATE_METRICS, *LIVE_METRICS))
    rows = (
        f"| `{name}` | {kind} | {', '.join(labels)} | {text} |"
        for name, kind, labels, text in (*run, *SELF_METRICS)
    )
    head = ("| metric | type | labels beside run_id | meaning |", "| --- | --- | --- | --- |")
    return "\n".join((*head, *rows)) + "\n"


def parser() -> argparse.ArgumentParser:
    """The options of ``rl-exporter``."""
    root = OneLineParser(prog="rl-exporter", description="Tools around the exporter.", allow_abbrev=False)
    root.add_argument("--version", action="version", version=version(DISTRIBUTION))
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("metrics", help="print the table of metrics that a run exposes")
    watch.add_parser(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_args(arguments)
    if options.command == "watch":
        return watch.run(options)
    sys.stdout.write(metrics_table())
    return 0
