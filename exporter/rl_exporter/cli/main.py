"""The console script ``rl-exporter``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from rl_exporter.alerting.bundle import BundleError
from rl_exporter.cli import bundle, targets, watch
from rl_exporter.cli.parser import OneLineParser, checked, given_path
from rl_exporter.collector import DISTRIBUTION
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from rl_exporter.server.gate import Gate
from rl_exporter.server.listen import PAGES_ADDRESS, ListenError, parse_listen_address
from rl_exporter.standard_streams import discard_output, open_standard_streams


def metrics_table() -> str:
    """A Markdown table of all metrics: those of a run, then those about the exporter itself."""
    run = ((m.name, m.kind, m.labels, m.help) for m in (*UPDATE_METRICS, *LIVE_METRICS))
    rows = (
        f"| `{name}` | {kind} | {', '.join(labels)} | {text} |"
        for name, kind, labels, text in (*run, *SELF_METRICS)
    )
    head = ("| metric | type | labels beside run_id | meaning |", "| --- | --- | --- | --- |")
    return "\n".join((*head, *rows)) + "\n"


def parser() -> argparse.ArgumentParser:
    """Make the parser of ``rl-exporter``."""
    root = OneLineParser(prog="rl-exporter", description="Tools around the exporter.", allow_abbrev=False)
    root.add_argument("--version", action="version", version=version(DISTRIBUTION))
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("metrics", help="print the table of metrics that a run exposes")
    pages = commands.add_parser("pages", help="receive Alertmanager's pages, print them, serve the runbooks")
    pages.add_argument("--listen", type=checked(parse_listen_address), default=PAGES_ADDRESS,
                       metavar="HOST:PORT", help=f"where Alertmanager delivers ({PAGES_ADDRESS})")  # fmt: skip
    pages.add_argument("--secret-file", type=checked(given_path), metavar="FILE",
                       help="take only notifications with the secret in FILE (credentials_file)")  # fmt: skip
    pages.add_argument("--web.config.file", dest="web_config", type=checked(given_path), metavar="FILE",
                       help="TLS and who may ask, in the format of Prometheus' exporter-toolkit")  # fmt: skip
    pages.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                       help="further name that others reach this machine by; repeatable")  # fmt: skip
    bundle.add_parser(commands)
    watch.add_parser(commands)
    targets.add_parser(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, or 2 for bad input; ``watch`` has its own."""
    open_standard_streams()
    options = parser().parse_args(arguments)
    try:
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader, such as head, has what it wanted
        discard_output()
        return 0
    except (OSError, BundleError) as error:
        sys.stderr.write(f"rl-exporter: error: {_reason(error)}\n")
        # 2 says of a run that a head is critical.
        return watch.USAGE_STATUS if options.command == "watch" else 2
    return status


def _reason(error: Exception) -> str:
    # Whoever opens a file or a port names it; only a write to standard output has a number and no name.
    if isinstance(error, OSError) and error.errno and error.filename is None:
        discard_output()
        return f"standard output: {error.strerror}; give one that can be written"
    return str(error)


def _metrics(_options: argparse.Namespace) -> int:
    sys.stdout.write(metrics_table())
    return 0


def _pages(options: argparse.Namespace) -> int:
    from rl_exporter.alerting.receiver import serve_pages  # noqa: PLC0415 - slow to import

    try:
        gate = Gate(options.web_config, options.allow_host)
    except ValueError as error:
        sys.stderr.write(f"rl-exporter pages: error: {error}\n")
        return 2
    try:
        return serve_pages(options.listen, gate, options.secret_file)
    except ListenError as error:
        # Alertmanager must know where pages go, so the port cannot be the next free one.
        sys.stderr.write(f"rl-exporter: error: {error.worded('--listen {}', auto=False)}\n")
        return 2


_COMMANDS = {
    "metrics": _metrics,
    "watch": watch.run,
    "targets": targets.run,
    "pages": _pages,
    "bundle": bundle.run,
}
