"""One Ray for all cases, and PPO algorithms of RLlib whose learners keep what their losses saw."""

import gc

import pytest
import ray

from tests.support.rllib.runs import Runs
from tests.support.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def _ray():
    ray.init(
        num_cpus=3, num_gpus=0, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20
    )
    yield
    ray.shutdown()


@pytest.fixture
def runs(_ray):
    """Builds algorithms, and stops them after the test."""
    made = Runs()
    yield made
    made.stop()
    gc.collect()
