"""TRL: the entropy of a language model's tokens, from the log of its trainer."""

from rl_exporter.integrations.trl.callback import HeadEntropyCallback

__all__ = ["HeadEntropyCallback"]
