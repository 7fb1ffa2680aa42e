"""Standard input, output and error of a command that some of them may be closed for."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_standard_streams() -> None:
    """Put /dev/null where standard input, output or error is closed.

    Otherwise the next file or socket that is opened gets the number, and what a library prints goes into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    # Python has none for a descriptor that was closed at its start.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def discard_output() -> None:
    """Send the rest of standard output nowhere, after an error: Python writes what is left when it exits."""
    with suppress(OSError, ValueError):  # not a real one, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the rest of the process
