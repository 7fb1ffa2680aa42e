"""Prometheus metrics for the action heads of a reinforcement-learning policy."""

from importlib.metadata import version

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.collector import HeadCollector
from rl_exporter.discovery.identity import Discovery
from rl_exporter.discovery.registration import RegistrationError
from rl_exporter.heads import Head, Heads
from rl_exporter.health import HeadState, Level, level
from rl_exporter.payload import HeadMeasurement, PPOUpdateHandler, PPOUpdatePayload
from rl_exporter.recorder import HeadRecorder
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.listen import ListenAddress
from rl_exporter.serving import serve
from rl_exporter.snapshot import HeadReading, RunInfo, RunState, SanctumSnapshot, TamiyoState
from rl_exporter.view.document import document

__version__ = version("rl-policy-exporter")

__all__ = [
    "Discovery",
    "Head",
    "HeadCollector",
    "HeadMeasurement",
    "HeadReading",
    "HeadRecorder",
    "HeadState",
    "Heads",
    "Level",
    "ListenAddress",
    "MetricsServer",
    "NotAnExporterError",
    "PPOUpdateHandler",
    "PPOUpdatePayload",
    "RegistrationError",
    "RunInfo",
    "RunState",
    "SanctumAggregator",
    "SanctumSnapshot",
    "TamiyoState",
    "__version__",
    "document",
    "level",
    "parse_snapshot",
    "serve",
]
