"""What is closed at the end of a ``with`` block, however that ends."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """As a context manager it closes at the end of the block."""

    def close(self) -> None:
        """Nothing is left behind. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
