"""``make drill``, as a user runs it."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def drill(*arguments, **environment):
    paths = os.pathsep.join(str(ROOT / name) for name in (".", "exporter", "training"))
    return subprocess.run(
        [sys.executable, "-m", "stack.drill", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_page_arrives_and_is_resolved_when_the_run_ends(prometheus, alertmanager):
    servers = os.environ.get("RL_TEST_SERVERS", ".servers")
    shown = drill("--servers", servers, "--faster", "15", "--pace", "0.5")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    page = shown.stdout.index("CRITICAL  Head blueprint of run drill has collapsed")
    assert "run drill completed" in shown.stdout[page:]
    assert "RESOLVED  Head blueprint of run drill has collapsed" in shown.stdout[page:]
    # Another page of the run, that the head is dead, may resolve before or after the verdict on this one.
    assert "the page came and went" in shown.stdout.splitlines()
    assert shown.stderr == ""


def test_without_servers_it_says_what_to_install_and_shows_the_run(tmp_path):
    shown = drill("--servers", str(tmp_path), "--pace", "0", "--updates", "1", "--linger", "0", PATH="")
    assert shown.returncode == 0, shown.stderr
    assert "drill: no page will arrive: install prometheus" in shown.stderr
    assert "run drill completed" in shown.stdout
