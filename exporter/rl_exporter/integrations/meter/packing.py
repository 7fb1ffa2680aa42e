"""The sums of one rank as the flat row that the ranks exchange, and its way to the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import exact_dtype
from rl_exporter.integrations.meter.sums import DECLARATIONS, Extent, FloatArray, UpdateSums


def pack(sums: UpdateSums[Tensor]) -> Tensor:
    """All of them as one flat row, in double precision."""
    return torch.cat([part.to(exact_dtype(part.device)).flatten() for part in sums])


def failed_sums(extent: Extent, device: torch.device) -> UpdateSums[Tensor]:
    """What a rank that could not measure sends: a row as long as that of the other ranks."""
    zeros = {name: torch.zeros(sum_.shape(extent), device=device) for name, sum_ in DECLARATIONS.items()}
    return UpdateSums(**{**zeros, "failed": torch.ones((), device=device)})


def on_host(rows: Tensor) -> FloatArray:
    """The packed rows of all ranks, (ranks, L), moved to the host."""
    # The only transfer of an update's telemetry: the host waits for the device here, and nowhere else.
    moved: FloatArray = rows.cpu().numpy().astype(np.float64, copy=False)
    return moved
