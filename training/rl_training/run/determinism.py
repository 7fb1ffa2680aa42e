"""``--deterministic``: the same seed gives the same run on one machine, on a GPU, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rl_training.config import BadInputError, RunConfig

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPRODUCIBLE = (":4096:8", ":16:8")
"""Sizes of cuBLAS' workspace with which its products are the same each time."""


@contextmanager
def deterministic_where_asked(run: RunConfig) -> Iterator[None]:
    """Where the run asks for it, torch takes no operation inside whose result depends on timing.

    An operation without such an implementation raises RuntimeError. Enter this before the first use of a GPU:
    cuBLAS and torch read the size of its workspace once. Raises BadInputError where the user has set another.
    """
    if not run.deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with _workspace(run.device):
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _workspace(device: str) -> Iterator[None]:
    given = os.environ.get(_WORKSPACE)
    if given in _REPRODUCIBLE or not device.startswith("cuda"):
        yield
        return
    if given is not None:
        raise BadInputError(
            f"--deterministic: products differ under {_WORKSPACE}={given}; leave it out of the environment"
        )
    os.environ[_WORKSPACE] = _REPRODUCIBLE[0]
    try:
        yield
    finally:
        del os.environ[_WORKSPACE]
