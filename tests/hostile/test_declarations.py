"""Whatever a program declares of its heads: numbers of any library, and what is none."""

import math

import gymnasium
import numpy as np
import pytest
import torch

import rl_exporter
from rl_exporter import Head, Heads


def test_a_policy_is_declared_with_the_numbers_of_its_space():
    space = gymnasium.spaces.MultiDiscrete([4, 9])
    with rl_exporter.serve(
        dict(zip(["grip", "arm"], space.nvec, strict=True)), listen="127.0.0.1:0", linger=0
    ) as heads:
        heads.record({"grip": 1.0, "arm": 2.0})
        declared = heads.snapshot().tamiyo.heads
    assert declared == Heads.of({"grip": 4, "arm": 9})
    assert [type(head.choices) for head in declared] == [int, int]
    assert Head("arm", gymnasium.spaces.Discrete(5).n).choices == 5
    assert Head("arm", torch.tensor(5)).choices == 5
    arm = Head("arm", 5, np.float32(0.5), np.float32(0.5), np.float64(0.25), reference=np.float32(1.5))
    assert [type(value) for value in (arm.entropy_multiplier, arm.reference, *arm.thresholds)] == [float] * 4


@pytest.mark.parametrize(
    "choices",
    [0, -1, 2.0, "3", True, np.True_, None, np.array([3, 4]), np.array([3]), np.float64(3), math.nan],
    ids=repr,
)
def test_what_is_no_number_of_choices_is_refused_in_one_line(choices):
    with pytest.raises(ValueError, match="give a whole number >= 1"):
        Head("arm", choices)


@pytest.mark.parametrize(
    "options",
    [
        {"entropy_multiplier": "2"},
        {"entropy_multiplier": True},
        {"entropy_multiplier": math.nan},
        {"reference": "best"},
        {"reference": -1.0},
        {"reference": np.array([1.0, 2.0])},
        {"warning": "0.5"},
        {"critical": math.nan},
    ],
    ids=str,
)
def test_what_is_impossible_in_a_declaration_is_a_value_error(options):
    with pytest.raises(ValueError, match=r"head 'arm' has .*give "):
        Head("arm", 4, **options)
