"""What runbooks ask for is what their queries and commands need, and each says what somebody on call must know."""

import re

import pytest

from tests.support.page_commands import PAGES, everything, found_on

RUNBOOKS = [page for page in PAGES if page.parent.name == "runbooks"]
LOW = ("RLPolicyHeadCollapsed", "RLPolicyHeadDead", "RLPolicyHeadEntropyLow", "RLPolicyHeadSettled")
"""Alerts about a low entropy: is it a collapse, or has the head learned?"""

SECTIONS = ("Meaning", "Impact", "Diagnosis", "What to do", "When it is no alarm")
ELSEWHERE = {
    "kubectl get events", "kubectl get pod", "kubectl describe job", "kubectl delete",
    "sacct -j JOB --format=State,ExitCode,MaxRSS", "py-spy dump --pid PID",
}  # fmt: skip
"""Commands for clusters and tools that no test has. Everything else is run."""


def asked(text):
    """The names that a page of this text asks its reader to replace."""
    sentences = re.findall(r"Replace (.*?) with", text, re.DOTALL) + re.findall(
        r"`([A-Z]+)`\s+(?:is|are)\b", text
    )
    sentences += re.findall(r"`OPTIONS` are .*?, (`DIR`)", text, re.DOTALL)
    return set(re.findall(r"[A-Z]{3,}", " ".join(sentences)))


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_asks_for_the_names_that_it_uses(page):
    used = set().union(*(each.placeholders for each in found_on(page) if each.kind != "inline"))
    assert used == asked(page.read_text())


def test_that_check_sees_a_name_that_no_query_has():
    text = "Replace `RUN` and\n`HEAD` with the names. `OPTIONS` are those of the run, `DIR` its folder."
    assert asked(text) == {"RUN", "HEAD", "OPTIONS", "DIR"}


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_has_its_sections_in_order(page):
    found = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert [heading for heading in found if heading in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize("page", [page for page in RUNBOOKS if page.stem in LOW], ids=lambda page: page.stem)
def test_a_runbook_about_low_entropy_asks_what_tells_collapse_from_success(page):
    queries = "\n".join(each.text for each in found_on(page) if each.kind == "promql")
    for metric in ("action_ratio", "state_information_nats", "advantage_margin_t_ratio"):
        assert f"rl_policy_head_{metric}{{" in queries
    assert "converged" in page.read_text()
    assert "--entropy-multiplier HEAD=" in page.read_text()


def test_what_no_test_can_run_is_known():
    """Each other command is run by tests/stack/test_runbook_commands.py."""
    foreign = ("kubectl", "sacct", "squeue", "scancel", "py-spy", "ps", "dmesg")
    found = {each.text for each in everything() if each.text.split()[0] in foreign}
    assert found <= ELSEWHERE
