"""PyTorch: a meter of action heads for any training loop."""

from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.meter.head_meter import HeadMeter

__all__ = ["HeadMeter", "Operations"]
