"""Methods of somebody's objects that also call us. Nobody's copy carries them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Tap:
    """In place of ``owner.name``: ``around(original, *arguments)`` is called instead, until ``remove``."""

    def __init__(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        self._owner, self._name, self._around = owner, name, around
        self._previous = vars(owner).get(name)
        self._original = getattr(owner, name)
        vars(owner)[name] = self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the owner calls."""
        return self._around(self._original, *arguments, **named)

    def remove(self) -> None:
        """Put back what stood there. A tap on top of this one stays, and calls through until it goes, too."""
        self._around = _call
        own = vars(self._owner)
        if own.get(self._name) is not self:
            return
        previous = self._previous
        while isinstance(previous, Tap) and previous._around is _call:  # noqa: SLF001 - its own kind
            previous = previous._previous  # noqa: SLF001 - the same
        if previous is None:
            del own[self._name]
        else:
            own[self._name] = previous

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied or pickled owner gets its own plain method."""
        return getattr, (self._owner, self._name)


def _call(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return original(*arguments, **named)
