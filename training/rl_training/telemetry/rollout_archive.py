"""``--record-rollouts``: what one update computed its entropies from, for whoever wants to check them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rl_training.policy.distributions import HeadLayout
from rl_training.policy.rollout import Rollout
from rl_training.telemetry.update import UpdateTelemetry


class RolloutRecorder:
    """Keeps the last update that had a whole epoch, and writes it to a NumPy archive.

    Arrays: ``logits`` (whole epochs, T, N, Σn) as the loss saw them; ``masks`` (T, N, K, Σn), where row k holds
    if the operation is k (K = 1: no operations); ``operations`` (T, N); ``consulted`` (K, H), empty where the
    masks tell it; ``padding`` (T, N), True where there was no step; ``sizes`` (H,) and ``names`` of the heads;
    ``update``, its number.
    """

    def __init__(
        self, layout: HeadLayout, consulted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None
    ) -> None:
        self._layout = layout
        self._consulted = np.zeros((0, len(layout.sizes)), dtype=np.bool_) if consulted is None else consulted
        self._kept: tuple[int, Rollout, UpdateTelemetry] | None = None
        self._updates = 0

    def keep(self, rollout: Rollout, telemetry: UpdateTelemetry) -> None:
        """Hold on to an update: nothing is copied or moved."""
        self._updates += 1
        self._kept = (self._updates, rollout, telemetry)

    def save(self, path: Path, updates_before: int = 0) -> None:
        """Write the archive; nothing is written when there was no update. Raises OSError."""
        if self._kept is None:
            return
        update, rollout, telemetry = self._kept
        logits: torch.Tensor = telemetry.epoch_logits()
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                logits=logits.float().cpu().numpy(),
                masks=rollout.masks,
                operations=rollout.actions[..., 0].cpu().numpy(),
                consulted=self._consulted,
                padding=np.zeros(rollout.starts.shape, dtype=np.bool_),
                sizes=np.asarray(self._layout.sizes),
                names=np.asarray(self._layout.names),
                update=np.asarray(updates_before + update),
            )
