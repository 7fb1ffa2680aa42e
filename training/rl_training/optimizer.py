"""Adam (Kingma and Ba 2015, arXiv:1412.6980) as torch has it, without the compiler that torch loads for it.

torch marks the methods of its optimizers for the compiler, and imports that, a second of work or more, when the
first of them is called. Nothing here compiles an optimizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """The methods of torch's own, without the marks: the same numbers and the same state."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step; what ``closure`` returns. The mark for the compiler switched gradients off, too."""
        return _STEP(self, closure)


_STEP = inspect.unwrap(torch.optim.Adam.step)
