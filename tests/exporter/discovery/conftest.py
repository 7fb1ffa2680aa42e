"""A run that is registered."""

import pytest

import rl_exporter
from tests.support.entries import LABELS


@pytest.fixture
def run(tmp_path):
    """A run that answers, and is registered."""
    recorder = rl_exporter.serve({"arm": 2}, run_id="a", listen="127.0.0.1:0", linger=0,
                                 register=rl_exporter.Discovery(tmp_path, LABELS))  # fmt: skip
    yield recorder
    recorder.close()
