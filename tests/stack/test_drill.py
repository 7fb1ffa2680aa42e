"""``make drill``, as a user runs it."""

import os

import pytest

from tests.support.shows import shown

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_the_page_arrives_and_is_resolved_when_the_run_ends(prometheus, alertmanager):
    servers = os.environ.get("RL_TEST_SERVERS", ".servers")
    found = shown("drill", "--servers", servers, "--faster", "15", "--pace", "0.5")
    assert found.returncode == 0, found.stdout + found.stderr
    page = found.stdout.index("CRITICAL  Head blueprint of run drill has collapsed")
    assert "run drill completed" in found.stdout[page:]
    assert "RESOLVED  Head blueprint of run drill has collapsed" in found.stdout[page:]
    # Another page of the run, that the head is dead, may resolve before or after the verdict on this one.
    assert "the page came and went" in found.stdout.splitlines()
    assert found.stderr == ""


def test_without_servers_it_says_what_to_install_and_shows_the_run(tmp_path):
    found = shown(
        "drill", "--servers", str(tmp_path), "--pace", "0", "--updates", "1", "--linger", "0", PATH=""
    )
    assert found.returncode == 0, found.stderr
    assert "drill: no page will arrive: install prometheus" in found.stderr
    assert "run drill completed" in found.stdout
