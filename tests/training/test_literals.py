"""Values as Python writes them."""

import subprocess
import sys

import pytest
from hypothesis import given

from rl_training.literals import canonical, literal, parse_literal
from tests.support.settings_values import LITERALS


@given(LITERALS)
def test_every_value_comes_back_as_it_was(value):
    found = parse_literal(literal(value))
    assert found == value
    assert type(found) is type(value)


def test_a_number_of_thousands_of_digits_comes_back():
    assert parse_literal(literal((-(7**6000),))) == (-(7**6000),)


@pytest.mark.parametrize(
    "text", ["a", "1 +", "[" * 300, "-" * 5000 + "1", "a" + ".b" * 5000, "{{1}}", "{[1]}", "()()"]
)
def test_any_other_text_is_no_value(text):
    with pytest.raises(ValueError, match="no value as Python writes it"):
        parse_literal(text)


def test_what_no_text_stands_for_is_refused():
    endless = []
    endless.append(endless)
    for value in (object(), (object(),), float("nan")):
        with pytest.raises(ValueError, match="no text stands for"):
            literal(value)
    with pytest.raises(RecursionError):
        literal(endless)
    assert canonical(endless) == "[[...]]"


def test_processes_agree_on_a_set_whatever_their_hash_seed():
    program = (
        "from datetime import date; from rl_training.literals import canonical; "
        "print(canonical([{'a', 'b', 'c', 'd', ('e', 'f')}, {date(2026, 1, day) for day in range(1, 9)}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(1, 5)
    }
    assert len(found) == 1
