import math

import pytest

from rl_exporter.heads import Head, Heads


def test_maximum_entropy_is_the_log_of_the_number_of_choices():
    assert Head("op", 6).max_entropy == math.log(6)
    assert Head("op", 6).normalize(math.log(6)) == 1.0


def test_a_head_of_one_choice_has_no_normalized_entropy():
    assert Head("constant", 1).normalize(0.0) is None


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (lambda: Head("", 3), "empty"),
        (lambda: Head("op", 0), "0 choices"),
        (lambda: Head("op", True), "choices"),
        (lambda: Head("op", 3, math.nan), "multiplier"),
        (lambda: Head("\ud800", 3), "UTF-8"),
        (lambda: Heads([]), "without heads"),
        (lambda: Heads([Head("op", 3), Head("op", 4)]), "more than once"),
        (lambda: Heads.of({"op": 3}).named("slot"), "unknown head 'slot'; declared heads: op"),
    ],
)
def test_misuse_is_named_at_once(declare, reason):
    with pytest.raises(ValueError, match=reason):
        declare()


def test_heads_keep_their_order():
    heads = Heads.of({"b": 2, "a": 3})
    assert heads.names == ("b", "a")
    assert [head.choices for head in heads] == [2, 3]
    assert "a" in heads
    assert "c" not in heads
