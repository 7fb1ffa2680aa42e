"""A mistake that looks plausible."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` occurs once in ``path``; ``tests`` are pytest arguments."""

    mistake: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
