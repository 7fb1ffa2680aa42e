"""``make drill``, as a user runs it."""

import os
import re

import pytest

from tests.support.shows import shown

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_the_page_arrives_and_is_resolved_when_the_run_ends(prometheus, alertmanager):
    servers = os.environ.get("RL_TEST_SERVERS", ".servers")
    found = shown("drill", "--servers", servers, "--faster", "15", "--pace", "0.5")
    assert found.returncode == 0, found.stdout + found.stderr
    page = re.search(r"CRITICAL  Head blueprint of run drill (has collapsed|is dead) ", found.stdout)
    after = found.stdout[page.end() :]
    assert "run drill completed" in after
    assert re.search(r"RESOLVED  Head blueprint of run drill (has collapsed|is dead) ", after)
    assert "the page came and went" in found.stdout.splitlines()
    assert found.stderr == ""


def test_a_run_that_ends_with_an_error_is_not_waited_for(prometheus, alertmanager):
    servers = os.environ.get("RL_TEST_SERVERS", ".servers")
    found = shown("drill", "--servers", servers, "--faster", "15", "--updates", "none")
    assert found.returncode == 2
    assert "argument --updates: " in found.stdout
    assert "the page did not arrive" in found.stdout.splitlines()


def test_without_servers_it_says_what_to_install_and_shows_the_run(tmp_path):
    found = shown(
        "drill", "--servers", str(tmp_path), "--pace", "0", "--updates", "1", "--linger", "0", PATH=""
    )
    assert found.returncode == 0, found.stderr
    assert "drill: no page will arrive: install prometheus" in found.stderr
    assert "run drill completed" in found.stdout
