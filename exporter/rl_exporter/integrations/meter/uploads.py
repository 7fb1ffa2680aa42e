"""From the host to the device, without waiting for it."""

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
    return on_device(torch.from_numpy(array), device)  # which no default device of the program moves


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; itself where it is there already.

    From the host it comes as ``upload`` brings an array. To the host, it is there when this returns.
    """
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    if device.type == "cuda":
        tensor = tensor.contiguous()  # page-locked memory cannot be written where elements share a place
        locked = tensor.pin_memory()
        # Page-locked memory of the loop: before the device comes to copy it, the loop may have written into it.
        tensor = tensor.clone().pin_memory() if locked is tensor else locked
    return tensor.to(device, non_blocking=True)


def upload_together(arrays: Sequence[npt.NDArray[np.int64]], device: torch.device) -> tuple[Tensor, ...]:
    """Flat arrays of indices on the device, in one copy: each copy takes as long as an operation."""
    return torch.split_with_sizes(upload(np.concatenate(arrays), device), [len(array) for array in arrays])
