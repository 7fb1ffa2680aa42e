"""What skrl's agents measured, and what they should have, by a second forward pass and NumPy.

skrl computes in float32. The second forward pass gives the same logits, so the numbers differ by what float32
loses in a softmax over them: less than 1e-6 of numbers about 1.
"""

import numpy as np
import pytest

from rl_exporter import serve
from rl_exporter.integrations.skrl import action_heads, measure
from tests.support.skrl_reach import ENVIRONMENTS, ROLLOUTS, train
from tests.support.update_by_hand import head_numbers

SIZES = (4, 2, 6)
STEPS = ENVIRONMENTS * ROLLOUTS
CLOSE = {"abs": 1e-6, "rel": 2e-6}


def measured(env, agent, timesteps=ROLLOUTS, gradients=True):
    with serve(action_heads(env), listen="127.0.0.1:0", linger=0) as recorder:
        layer = agent.policy.layer if gradients else None
        with measure(agent, recorder, gradients=layer):
            train(env, agent, timesteps)
        return recorder.snapshot()


def assert_heads(snapshot, epochs, norms, *, masked=False, steps=None):
    assert snapshot.record_errors == 0
    for head, (name, reading) in enumerate(snapshot.tamiyo.readings.items()):
        expected = head_numbers(epochs, head, masked=masked)
        if len(snapshot.tamiyo.readings) > 1:
            expected["importance_ratio_max"] = None  # the memory has one log-probability for all heads
        expected["gradient_norm"] = np.mean(norms, 0)[head]
        for number, value in expected.items():
            close = CLOSE if not (masked and number.startswith("state")) else {"abs": 1e-5}
            assert getattr(reading, number) == (None if value is None else pytest.approx(value, **close)), (
                name,
                number,
                getattr(reading, number),
                value,
            )
