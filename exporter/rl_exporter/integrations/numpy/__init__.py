"""NumPy: a meter of action heads for training loops in JAX and NumPy. It imports no torch."""

try:
    import numpy as np  # noqa: F401 - without it, say what to install
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "numpy":
        raise
    raise ImportError("rl_exporter.integrations.numpy needs NumPy; pip install numpy") from error

from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.numpy.head_meter import HeadMeter

__all__ = ["HeadMeter", "Operations"]
