"""The console script ``rl-exporter``: its options, and which module handles each command."""

from rl_exporter.cli.main import main

__all__ = ["main"]
