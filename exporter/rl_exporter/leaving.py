"""How a program left its run: the state that its last exception, or the end of the interpreter, stands for."""

from __future__ import annotations

import signal
import sys

from rl_exporter.snapshot import RunState

_SIGNAL_STATUS = 128
"""A program that signal n ended reports 128 + n, to a shell as to a job scheduler."""

_REQUESTS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which people and schedulers ask a program to end; Slurm lets a job choose. Others are crashes."""


def left_by(error: BaseException | None) -> RunState:
    """The state of a run whose code ended normally (None) or was left by ``error``.

    ``sys.exit`` counts by its status, as a job scheduler counts it: 0 is success, 128 + n was signal n.
    """
    if error is None:
        return RunState.COMPLETED
    if isinstance(error, SystemExit):
        return _of_status(error.code)
    # A group may mix Ctrl-C with an error of another task.
    if isinstance(error, BaseExceptionGroup) and error.subgroup(Exception) is not None:
        return RunState.FAILED
    # KeyboardInterrupt, GeneratorExit, asyncio.CancelledError: somebody wanted an end, and nothing went wrong.
    return RunState.FAILED if isinstance(error, Exception) else RunState.INTERRUPTED


def left_by_interpreter() -> RunState:
    """The state of a run that is still open while the interpreter ends, for functions of ``atexit``.

    An exception that ended the program decides. The status of ``sys.exit`` is not known by then.
    """
    # In a session, as of python -i or Jupyter, the last error ended one input and not the program.
    if hasattr(sys, "ps1"):
        return RunState.COMPLETED
    return left_by(getattr(sys, "last_value", None))


def _of_status(status: object) -> RunState:
    if status is None or status == 0:  # False, too: it is sent to the shell as 0
        return RunState.COMPLETED
    asked = isinstance(status, int) and status - _SIGNAL_STATUS in _REQUESTS
    return RunState.INTERRUPTED if asked else RunState.FAILED
