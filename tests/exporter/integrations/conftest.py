"""Fixtures of the integrations' tests, whose networks are tiny."""

from tests.support.threads import one_thread

__all__ = ["one_thread"]
