"""Pickling for immutable dataclasses with read-only mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any


class Picklable:
    """A dataclass whose mappings are read-only views. Python itself cannot pickle such a view."""

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type] # only dataclasses inherit this
        plain = {name: dict(v) if isinstance(v, MappingProxyType) else v for name, v in values.items()}
        return _rebuilt, (type(self), plain)


def _rebuilt(kind: type[Any], values: Mapping[str, Any]) -> Any:
    return kind(**{name: MappingProxyType(v) if isinstance(v, dict) else v for name, v in values.items()})
