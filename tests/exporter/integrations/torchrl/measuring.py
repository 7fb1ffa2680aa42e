"""What the hook measured of a loop of TorchRL, and what it should have, by a second forward pass and NumPy.

TorchRL computes in float32. The second forward pass gives the same logits, so the numbers differ by what float32
loses in a softmax over them: less than 1e-6 of numbers about 1.
"""

import numpy as np
import pytest

from rl_exporter import serve
from rl_exporter.integrations.torchrl import HeadEntropyHook, action_heads
from tests.support.torchrl_reach import FRAMES
from tests.support.update_by_hand import head_numbers

CLOSE = {"abs": 1e-6, "rel": 2e-6}


def measured(loop, updates=1, frames_per_batch=FRAMES, **epochs):
    """The snapshot after some updates; ``loop.evaluated`` is of the last one."""
    with serve(action_heads(loop.environment), listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loop.loss, recorder, frames_per_batch=frames_per_batch)
        for _ in range(updates):
            for kept in (loop.evaluated, loop.outputs, loop.norms):
                kept.clear()
            batch = loop.rollout()
            for _ in loop.epochs(batch, hook=hook, **epochs):
                pass
            hook.record(batch)
        return recorder.snapshot(), batch


def assert_heads(snapshot, loop, epochs, *, norms=None):
    assert snapshot.record_errors == 0
    norms = np.mean(loop.norms if norms is None else norms, 0)
    for head, name in enumerate(loop.sizes):
        reading = snapshot.tamiyo.readings[name]
        expected = head_numbers(epochs, head, masked=bool(loop.masked)) | {"gradient_norm": norms[head]}
        for number, value in expected.items():
            found = getattr(reading, number)
            if number.startswith("state_information"):
                # Newton's steps end before the last digit where masks are random.
                assert found == pytest.approx(value, abs=1e-6 if not loop.masked else 1e-5), (name, number)
            else:
                assert found == (None if value is None else pytest.approx(value, **CLOSE)), (name, number)
