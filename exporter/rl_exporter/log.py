"""The log of the exporter, inside other people's programs."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

NAME = "rl_exporter"


class HarmlessLog(logging.LoggerAdapter[logging.Logger]):
    """Never raises. A handler of the program may send a record anywhere, and that may fail.

    It would end a training, or the thread that keeps a run listed.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log as any logger does; the record names the caller."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        with suppress(Exception):
            super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave the message as it is."""
        return msg, kwargs


def exporter_log() -> HarmlessLog:
    """The log of all parts of the exporter, which ``logging.getLogger("rl_exporter")`` configures."""
    return HarmlessLog(logging.getLogger(NAME))
