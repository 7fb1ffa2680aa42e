"""Ports that nobody has."""

import random
import socket
from contextlib import ExitStack


def free_ports(number=1):
    """Consecutive ports of 127.0.0.1, below the ephemeral ones, which any client of another test may get."""
    while True:
        first = random.SystemRandom().randrange(20_000, 27_000)
        try:
            with ExitStack() as stack:
                for port in range(first, first + number):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return range(first, first + number)
        except OSError:
            continue
