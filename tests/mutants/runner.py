"""Runs pytest again and again, each time in a process forked from one that has loaded torch, which takes seconds.

Reads one JSON line for each run, [folder, arguments], and answers it with one, [exit status, output].
"""

import gc
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

LOADED = ("torch", "scipy.stats", "gymnasium", "prometheus_client", "pydantic", "rich.console")
"""What the project and its tests import that no mutant changes and pytest does not rewrite."""


def run(folder, arguments):
    """Exit status and output of pytest on the copy of the project in ``folder``."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            become_pytest(folder, arguments, output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def become_pytest(folder, arguments, output):
    status = -1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        paths = [str(Path(folder, name)) for name in ("exporter", "training")]
        sys.path[:0] = paths
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        status = int(pytest.main(arguments))
        sys.stdout.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end, and would look through all of torch
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
