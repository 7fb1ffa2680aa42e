"""What a fresh machine lacks is one clear line with the remedy."""

import shutil
import subprocess

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(tmp_path, python):
    return subprocess.run(
        ["make", "--no-print-directory", "lint", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def complaint(result):
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    return lines[0]


def test_an_old_python_is_named_with_the_remedy(tmp_path):
    assert "no Python 3.11 or newer found; install one, or name it: make PYTHON=" in complaint(
        make(tmp_path, "")
    )


def test_a_missing_venv_module_is_named_with_the_remedy(tmp_path):
    python = tmp_path / "python3.11"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    said = complaint(make(tmp_path, python))
    assert "lacks the venv module" in said
    assert "apt-get install python3-venv" in said
    assert not (tmp_path / "venv").exists()


def test_help_names_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {target for target in phony if f"make {target} " not in shown} <= {"help", "lint", "types"}
