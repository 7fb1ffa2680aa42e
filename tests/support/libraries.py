"""Libraries that cannot stand beside the project's own: each in a folder of its own, made once and kept."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDER = ROOT / ".libraries"


def library_folder(requirement, constraints):
    """The folder, named after the directory of the constraints, that goes first on PYTHONPATH.

    What it lacks, such as torch, comes from the interpreter's own packages. It is made again when the
    constraints or the interpreter have changed.
    """
    name, wanted = constraints.parent.name, f"{sys.version}\n{requirement}\n{constraints.read_text()}"
    folder, stamp = FOLDER / name, FOLDER / f"{name}.made"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in two processes, and one of them makes it
        if not (folder.is_dir() and stamp.is_file() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            _install(requirement, constraints, folder)
            stamp.write_text(wanted)
    return folder


def library_environment(folder):
    """Environment variables of a process that uses it."""
    own = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *own]), "OMP_NUM_THREADS": "1"}


def _install(requirement, constraints, folder):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    made = subprocess.run(
        [*command, "--target", folder, "--constraint", constraints, requirement],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        said = (
            f"{requirement} is not installed in {Path(folder).relative_to(ROOT)}: {made.stderr.strip()[-500:]}"
        )
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
