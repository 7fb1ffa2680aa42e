"""The meter for NumPy in a loop of JAX: numbers, when it reads arrays, what it says of those that it cannot read."""

import json
import subprocess
import sys

import pytest

from stack.processes import free_address
from tests.support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told():
    """What a loop in a process of its own prints."""
    command = [sys.executable, "-W", "error", ROOT / "tests/support/jax_loop.py"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=300).stdout)


NAMES = {
    "entropy": "entropy",
    "choice_entropy": "choice_entropy",
    "choice_share": "choice_share",
    "open_share": "choice_share",
    "head_importance_ratio_max": "ratio",
    "head_gradient_norm": "norm",
    "action_shares": "shares",
    "state_information": "information",
}


def test_every_number_of_a_loop_is_that_of_a_second_computation(told):
    """In float32, as JAX computes; ratios, of exponentials of its log-probabilities, to 1e-5."""
    for update, (found, expected) in enumerate(zip(*told["train"].values(), strict=True)):
        of_decisions = {"state_information_ratio", "advantage_margin", "advantage_margin_t"}
        assert found.keys() == NAMES.keys() | of_decisions | {"clipped_share"}
        for name, second in NAMES.items():
            for head in ("a", "b"):
                tolerance = 1e-5 if second == "ratio" else 1e-6
                assert found[name][head] == pytest.approx(expected[second][head], abs=tolerance), (name, head)
        assert found["clipped_share"] == expected["clipped_share"]
        for head in ("a", "b") if update == 0 else ():  # later ones remember the updates before them
            margin = [found[name][head] for name in ("advantage_margin", "advantage_margin_t")]
            assert margin == pytest.approx(expected["margin"][head], rel=1e-6)


def test_a_meter_waits_for_the_device_only_at_the_end_of_an_update(told):
    assert told["waits"] == {"waited": False, "same": True}


def test_bfloat16_of_jax_is_read(told):
    assert told["half_precision"] == {"same": True}


def test_what_cannot_be_read_is_said_once_and_costs_one_update(told):
    (line,) = told["errors"]["lines"]
    assert line.startswith("logits are DynamicJaxprTracer, which NumPy cannot read here (")
    assert line.endswith("from inside a jitted function return them and add them outside")
    assert "\n" not in line
    of_deleted, later = told["errors"]["after"]
    assert of_deleted == {}
    assert "entropy" in later


def test_wide_heads_are_read_at_once(told):
    assert told["wide"] == ["entropy"]


PROCESS = """
import jax, numpy as np, sys
from jax.experimental.multihost_utils import process_allgather
from rl_exporter.integrations.numpy import HeadMeter
address, own = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 2, own)
rows = np.random.default_rng(0).standard_normal((40, 7))
meter, alone = HeadMeter({"a": 4, "b": 3}), HeadMeter({"a": 4, "b": 3})
meter.add(rows[:15] if own else rows[15:])
alone.add(rows)
found, expected = meter.result(gather=process_allgather), alone.result()
for name, of_heads in expected.items():
    for head, number in of_heads.items():
        np.testing.assert_allclose(found[name][head], number, atol=1e-12)
print("same", *found)
"""


def test_processes_of_jax_add_up_to_what_one_sees():
    address = free_address()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(own)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for own in range(2)
    ]  # fmt: skip
    for process in processes:
        printed, errors = process.communicate(timeout=120)
        assert "same entropy" in printed, errors
