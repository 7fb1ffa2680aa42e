"""What a forked child lets go of: it has its parent's memory and sockets, but none of its threads."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakMethod


def in_forked_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child that this process forks from now on, while its object lives.

    An error in it ends neither the child nor the parent.
    """
    reference = WeakMethod(method)

    def call() -> None:
        bound = reference()
        if bound is not None:
            bound()

    os.register_at_fork(after_in_child=call)


def let_go_of_port(port: int) -> None:
    """Give up every TCP socket of this process with this local port; other processes keep theirs.

    The numbers of the descriptors stay taken, by /dev/null: objects that still know them can close them later
    without closing a file that got the same number.
    """
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError):  # the descriptor of the listing itself is closed by now
            if _local_port(int(name)) == port:
                let_go_of(int(name))


def let_go_of(descriptor: int) -> None:
    """Give up what a descriptor of this process stands for; its number stays taken, by /dev/null."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def _local_port(descriptor: int) -> int | None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        if copy.family not in {socket.AF_INET, socket.AF_INET6} or copy.type != socket.SOCK_STREAM:
            return None
        port: int = copy.getsockname()[1]
        return port
