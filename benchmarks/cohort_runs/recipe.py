"""What a run of the cohort is made of, and what has to follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from rl_training.config import PPOConfig


class Label(StrEnum):
    """What a run is, as its recipe says."""

    COLLAPSED = "collapsed"
    """A head decides the same whatever it sees, and should not."""
    STUCK = "stuck"
    """Heads stop exploring before they have learned to look at the state: at least one collapses."""
    LEARNED = "learned"
    """Every head that is low got there by learning what to do where."""
    HARMLESS = "harmless"
    """Nothing is low where it matters: healthy, diluted, starved, without a choice."""
    CONSTANT = "constant"
    """One action is best in every state, so that what is right looks like a collapse."""

    @property
    def has_to_page(self) -> bool:
        """Whether somebody must hear of such a run."""
        return self in {Label.COLLAPSED, Label.STUCK}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one kind of run is made, and with how many seeds."""

    name: str
    label: Label
    why: str
    seeds: int
    heads: tuple[str, ...] = ()
    """The heads that collapse; empty in a stuck run, in which at least one does."""
    spared: bool = True
    """The other heads have no reason to collapse, so that a page for one of them is false."""
    environment: str = "heads"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    learning: PPOConfig = field(default_factory=PPOConfig)
    num_envs: int = 8
    updates: int = 40
    cut_head: str = ""
    """A head that sees nothing of the state."""
    returns: tuple[float, float] = (-math.inf, math.inf)
    """Where the return must end. A run that does not learn is no run that learned, and the return says so."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
