"""Which actions the states of the slots allow. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rl_training.action_space import (
    CANONICAL,
    HEAD_NAMES,
    OFFSETS,
    OPERATIONS_TABLE,
    SEGMENT,
    SIZES,
    Blueprint,
    Operation,
)
from rl_training.environments.growing.lifecycle import Slots, is_legal

_BEGIN = dict(zip(HEAD_NAMES, OFFSETS.tolist(), strict=True))
_SLOT = slice(_BEGIN["slot"], _BEGIN["slot"] + SIZES[HEAD_NAMES.index("slot")])


def _free_rows() -> npt.NDArray[np.bool_]:
    """(operations, Σn): the masks if the slots forbade nothing; ignored heads keep their canonical action."""
    rows: npt.NDArray[np.bool_] = OPERATIONS_TABLE[:, SEGMENT] | CANONICAL
    rows[Operation.GERMINATE, _BEGIN["blueprint"] + Blueprint.NOOP] = False
    return rows


_FREE_ROWS = _free_rows()


def action_masks(slots: Slots) -> npt.NDArray[np.bool_]:
    """Valid actions, (operations, Σn); row k holds if the operation is k, and all rows agree on ``op``.

    An operation that is not valid now keeps the canonical slot in its row: every segment must allow something.
    """
    legal = np.array([[is_legal(slots, operation, i) for i in range(len(slots))] for operation in Operation])
    possible = legal.any(axis=1)
    rows = _FREE_ROWS.copy()
    rows[:, : len(Operation)] = possible
    legal[~possible, 0] = True
    legal[Operation.WAIT] = CANONICAL[_SLOT]
    rows[:, _SLOT] = legal
    return rows
