"""CPU seconds of named parts of a program, each without those that it calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

Watched = tuple[Any, str, str]
"""Owner, name of its function or method, and the part to which its time belongs."""


class Stopwatch:
    """Adds up CPU seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextmanager
    def watching(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Replace a function by one that is timed."""
        with mock.patch.object(owner, name, self._timed(getattr(owner, name), part)):
            yield

    @contextmanager
    def watching_all(self, watched: Iterable[Watched]) -> Iterator[None]:
        """Replace several functions."""
        with ExitStack() as stack:
            for each in watched:
                stack.enter_context(self.watching(*each))
            yield

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                whole = time.process_time() - began
                self.seconds[part] += whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole

        return timed
