"""An argument parser that reports bad usage in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """Reports bad usage in one line, without the usage text, and exits with ``usage_status``."""

    usage_status = 2

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reject unknown arguments here: argparse leaves them to the root parser, with another exit status."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print the reason and where to look, and exit."""
        self.exit(self.usage_status, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make ``parse`` an argparse type that shows the message of its ValueError, which names the remedy."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def given_path(text: str) -> Path:
    """The path that somebody gives. Raises ValueError for an empty one, as an unset variable of a shell is."""
    if not text.strip():
        raise ValueError("an empty path leads nowhere; give one, or leave the option out")
    return Path(text)
