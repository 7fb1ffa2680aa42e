"""The options of ``rl-exporter targets``. Its implementation is imported only when the command runs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rl_exporter.cli.parser import checked, given_path
from rl_exporter.discovery.entry import STALE_SECONDS
from rl_exporter.discovery.liveness import PROBE_SECONDS

if TYPE_CHECKING:
    from rl_exporter.cli.parser import OneLineParser

_LONGEST = 366 * 86400.0


def add_parser(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    """Add the command ``targets``."""
    text = "runs that registered in a directory (--register): list them, remove what dead ones left"
    targets = commands.add_parser("targets", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    actions = targets.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every registered run, and whether it answers", allow_abbrev=False
    )
    prune = actions.add_parser(
        "prune", help="remove entries of runs that are dead; files that people wrote stay", allow_abbrev=False
    )
    for action in (listing, prune):
        action.add_argument("directory", type=checked(given_path), metavar="DIR", help="what --register named")
        action.add_argument("--timeout", type=_timeout, default=PROBE_SECONDS, metavar="S",
                            help=f"seconds to wait for a run to answer ({PROBE_SECONDS:g})")  # fmt: skip
        action.add_argument("--http.config.file", dest="http_config", type=checked(given_path), metavar="FILE",
                            help="TLS and password, in the format of Prometheus' clients "
                            "(http_config)")  # fmt: skip
    listing.add_argument("--json", action="store_true", help="a JSON document a line and run")
    prune.add_argument("--older-than", type=_seconds, default=STALE_SECONDS, metavar="S",
                       help="a run that does not answer is dead when its last heartbeat is S seconds old "
                       f"({STALE_SECONDS:g}); on its own machine a refused connection is enough")  # fmt: skip
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _seconds(text: str, least: float = 0.0) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; give seconds >= {least:g}")
    return seconds


def _timeout(text: str) -> float:
    return _seconds(text, 0.1)


def run(options: argparse.Namespace) -> int:
    """List or prune. Returns the exit status. Raises OSError that names the directory."""
    from rl_exporter.discovery.maintenance import list_targets, prune_targets  # noqa: PLC0415 - slow to import

    try:
        return {"list": list_targets, "prune": prune_targets}[options.action](options)
    except ValueError as error:
        sys.stderr.write(f"rl-exporter targets: error: {error}\n")
        return 2
    except OSError as error:
        if error.filename is None:  # standard output, not the directory
            raise
        raise OSError(
            f"{str(options.directory)!r}: {error.strerror}; give the directory that runs register in"
        ) from error
