"""How many threads torch computes with."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """As in the trainer and its workers: sums depend on how many threads share them, and more are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
