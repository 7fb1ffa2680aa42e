"""The options of ``rl-exporter watch``. Its implementation is imported only when the command runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rl_exporter.cli.parser import OneLineParser, checked, given_path
from rl_exporter.client.addresses import DEFAULT_ADDRESS
from rl_exporter.server.listen import DEFAULT_PORT
from rl_exporter.view.verdict import Status

if TYPE_CHECKING:
    from rl_exporter.notify.destination import Destination

INTERVAL_SECONDS = 2.0
TIMEOUT_SECONDS = 5.0
USAGE_STATUS = int(Status.NO_DATA)
"""Exit status for wrong usage. Not argparse's 2, because here 1 and 2 are verdicts on a run."""

EPILOG = f"""\
URL may leave out the scheme (http), the port ({DEFAULT_PORT}) and the path (/metrics).

exit status with --once: 0 every head is healthy, 1 some head is in warning, 2 some head is critical or
its gradients explode, {USAGE_STATUS} no data or wrong usage. Of several runs the worst counts: critical, then
no data, then warning.
"""


def add_parser(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    """Add the command ``watch``."""
    watch = commands.add_parser(
        "watch",
        help="the panel ACTION HEADS in the terminal, or once as text or JSON",
        description="Watch the action heads of one run or many, from their /metrics.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    watch.usage_status = USAGE_STATUS
    watch.add_argument("urls", nargs="*", metavar="URL", help=f"/metrics of a run ({DEFAULT_ADDRESS})")
    watch.add_argument("--targets", type=checked(given_path), metavar="DIR",
                       help="watch all targets in the JSON and YAML files of DIR (file_sd)")  # fmt: skip
    watch.add_argument("--interval", type=_seconds, default=INTERVAL_SECONDS, metavar="S",
                       help=f"seconds between two looks ({INTERVAL_SECONDS:g})")  # fmt: skip
    watch.add_argument("--timeout", type=_seconds, default=TIMEOUT_SECONDS, metavar="S",
                       help=f"seconds to wait for an answer ({TIMEOUT_SECONDS:g})")  # fmt: skip
    watch.add_argument("--ca-file", type=checked(given_path), metavar="FILE",
                       help="trust the authorities in FILE (PEM) instead of the system's")  # fmt: skip
    watch.add_argument("--insecure", action="store_true", help="accept any certificate")
    watch.add_argument("--http.config.file", dest="http_config", type=checked(given_path), metavar="FILE",
                       help="TLS and password, in the format of Prometheus' clients (http_config)")  # fmt: skip
    watch.add_argument("--notify", action="append", type=_webhook, default=[], metavar="URL",
                       help="watch without the panel, and post what the alert rules would page for: to Slack, "
                       "Discord, or any webhook that takes JSON; repeatable; @FILE holds the URL")  # fmt: skip
    watch.add_argument("--once", action="store_true", help="print the panel once as text, and exit")
    watch.add_argument("--json", action="store_true", help="with --once: a JSON document a line and run")


def _webhook(text: str) -> Destination:
    from rl_exporter.notify.destination import parse_destination  # noqa: PLC0415 - slow to import

    return checked(parse_destination)(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; give seconds from 0.1 to 3600")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Show the panel or print once. Returns the exit status."""
    from rl_exporter.panel.watch import watch  # noqa: PLC0415 - slow to import

    return watch(options)
