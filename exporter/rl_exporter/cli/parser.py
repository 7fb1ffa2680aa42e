"""An argument parser that answers bad usage with one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that answers bad usage with one line and ``usage_status``."""

    usage_status = 2

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here and not in the root parser, because a command has its own status."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print the reason and the remedy, and exit."""
        self.exit(self.usage_status, f"{self.prog}: error: {message} (see {self.prog} --help)\n")
