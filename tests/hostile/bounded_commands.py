"""``rl-exporter`` among files that others put down.

Each command runs in a process with limits on memory and CPU time, so that a reader that swallows a bomb fails
instead of the machine.
"""

import subprocess
import sys

COMMAND = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
sys.argv = ["rl-exporter", *sys.argv[1:]]
from rl_exporter.cli.main import main
sys.exit(main())
"""


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def loop(path):
    path.symlink_to(path.name)


def writing(text):
    return lambda path: path.write_text(text)
