"""What tests of entries share."""

import os
import time

LABELS = {"cluster": "lab"}


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)
