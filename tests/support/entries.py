"""What tests of entries share."""

import os
import time

LABELS = {"cluster": "lab"}


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)
