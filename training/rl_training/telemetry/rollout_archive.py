"""``--record-rollouts``: what one update computed its entropies from, so that anybody can check the numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.whole_files import whole_file
from rl_training.action_space import BoolArray
from rl_training.policy.rollout import Rollout
from rl_training.telemetry.update import UpdateTelemetry


class RolloutArchive:
    """Keeps the last update and writes it to a NumPy archive.

    Arrays, for T steps of N environments, H heads with Σn actions, and K operations (1 where masks depend on
    none): ``logits`` (whole epochs, T, N, Σn) as the loss saw them; ``masks`` (T, N, K, Σn), where row k holds
    if the operation is k; ``operations`` (T, N); ``consulted`` (K, H), with no rows where the masks tell it;
    ``padding`` (T, N), True where there was no step; ``sizes`` (H,) and ``names`` of the heads; ``update``, its
    number.
    """

    def __init__(self, layout: HeadLayout, consulted: BoolArray | None) -> None:
        self._layout = layout
        self._consulted = np.zeros((0, len(layout.sizes)), dtype=np.bool_) if consulted is None else consulted
        self._kept: tuple[int, Rollout, UpdateTelemetry] | None = None
        self._updates = 0

    def keep(self, rollout: Rollout, telemetry: UpdateTelemetry) -> None:
        """Hold on to an update without copying or moving anything, so that it costs the training no time."""
        self._updates += 1
        self._kept = (self._updates, rollout, telemetry)

    def save(self, path: Path, updates_before: int = 0) -> bool:
        """Write the archive whole; returns whether there was an update to write. Raises OSError."""
        if self._kept is None:
            return False
        update, rollout, telemetry = self._kept
        # In memory first: on a full disk the writer of archives raises whatever its state leads to.
        content = io.BytesIO()
        np.savez_compressed(
            content,
            logits=telemetry.epoch_logits().float().cpu().numpy(),
            masks=rollout.masks,
            operations=rollout.actions[..., 0].cpu().numpy(),
            consulted=self._consulted,
            # Part of the format, although this trainer never pads.
            padding=np.zeros(rollout.starts.shape, dtype=np.bool_),
            sizes=np.asarray(self._layout.sizes),
            names=np.asarray(self._layout.names),
            update=np.asarray(updates_before + update),
        )
        with whole_file(path) as file:
            file.write(content.getbuffer())
        return True
