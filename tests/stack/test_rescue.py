"""``make rescue``, as a user runs it, and the words in which it tells what happens."""

import os
import re

import pytest

from stack.rescue import Story, _summary
from tests.support.shows import shown


def update(number, ratio, applied, nats=0.0):
    """A line of the log."""
    return {
        "update": number,
        "rl_policy_head_choice_entropy_ratio": {} if ratio is None else {"blueprint": ratio},
        "rl_policy_head_state_information_nats": {"blueprint": nats},
        "rl_policy_head_entropy_coefficient_applied": {"blueprint": applied},
    }


def told(*points):
    """A story and its lines, from the ratio and the coefficient of each update."""
    story = Story()
    lines = [
        line
        for number, (ratio, applied) in enumerate(points, 1)
        for line in story.tell(update(number, ratio, applied))
    ]
    return story, lines


def test_it_tells_the_fall_the_catch_the_return_and_the_end_of_it():
    story, lines = told((0.9, 0), (0.2, 0), (0.05, 0.2), (None, 0.2), (0.3, 0.25), (0.1, 0.1), (0.05, 0.0))
    assert [re.split(r"  +|: ", line)[:2] for line in lines] == [
        ["FALLS", "update 2"], ["CAUGHT", "update 3"], ["BACK", "update 5"], ["LET GO", "update 7"],
    ]  # fmt: skip
    assert story.rescued
    assert _summary(story, paged=False) == (
        "blueprint fell to 0.050 and was back after 3 updates, with a coefficient of 0.25 at most; nobody was paged"
    )
    assert _summary(story, paged=True).endswith("a page arrived all the same")


def test_a_head_that_looks_at_the_state_again_is_back_however_low_it_is():
    story = Story()
    (fell,) = story.tell(update(1, 0.1, 0.0, nats=0.01))
    (caught,) = story.tell(update(2, 0.1, 0.3, nats=0.01))
    (back,) = story.tell(update(3, 0.2, 0.4, nats=0.3))
    assert "FALLS" in fell
    assert "CAUGHT" in caught
    assert "decides by the state now, its lowest was 0.100" in back
    assert story.rescued


def test_a_head_that_is_low_because_it_has_learned_does_not_fall():
    assert list(Story().tell(update(1, 0.1, 0.0, nats=0.3))) == []


@pytest.mark.parametrize(
    ("points", "end"),
    [
        ([(0.9, 0.0)] * 3, "blueprint did not fall"),
        ([(0.1, 0.1)] * 3, "blueprint fell, and did not come back"),
        ([*[(0.1, 0.1)] * 16, (0.3, 0.1)], "blueprint fell to 0.100 and was back after 16 updates"),
    ],
)
def test_what_is_no_rescue_is_called_none(points, end):
    story, _ = told(*points)
    assert not story.rescued
    assert _summary(story, paged=False).startswith(end)


@pytest.mark.stack
@pytest.mark.slow
def test_the_head_falls_is_caught_and_comes_back_and_nobody_is_paged(prometheus, alertmanager):
    servers = os.environ.get("RL_TEST_SERVERS", ".servers")
    # 12 s of updates are eight minutes of rules at this factor: long enough for the page that must not come.
    found = shown("rescue", "--servers", servers, "--faster", "40", "--pace", "0.25", "--linger", "0")
    assert found.returncode == 0, found.stdout + found.stderr
    places = [found.stdout.index(word) for word in ("FALLS", "CAUGHT", "BACK", "LET GO")]
    assert places == sorted(places)
    assert "nobody was paged" in found.stdout
    assert "CRITICAL" not in found.stdout


def test_without_servers_it_says_what_to_install(tmp_path):
    found = shown("rescue", "--servers", str(tmp_path), PATH="")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert found.stderr.startswith("rescue: error: install prometheus")
