"""PyTorch: a meter of action heads for any training loop."""

from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.meter.operations import Operations

__all__ = ["HeadMeter", "Operations"]
