"""Brings a collapsing head back: what its entropy coefficient needs, from a snapshot, in plain arithmetic."""

from rl_exporter.intervention.controller import EntropyController
from rl_exporter.intervention.law import Gains

__all__ = ["EntropyController", "Gains"]
