"""From NumPy to the device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def upload(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device; on the CPU the tensor shares its memory.

    A copy from ordinary memory makes the host wait until the device has done everything before it. A copy from
    page-locked memory queues behind that work, and the host goes on.
    """
    host = torch.from_numpy(array)  # which no default device of the program moves
    if device.type == "cpu":
        return host
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)


def upload_together(arrays: Sequence[npt.NDArray[np.int64]], device: torch.device) -> tuple[Tensor, ...]:
    """Flat arrays of indices on the device, in one copy: each copy takes as long as an operation."""
    return torch.split_with_sizes(upload(np.concatenate(arrays), device), [len(array) for array in arrays])
