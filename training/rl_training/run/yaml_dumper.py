"""YAML that the loader of configuration files reads as what was written."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import yaml

from rl_training.literals import is_huge, literal
from rl_training.run.yaml_loader import LITERAL, Loader


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the loader would take for something else, and writes tuples and sets for it."""

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers


def _literal(dumper: _Dumper, value: Any) -> yaml.ScalarNode:
    return dumper.represent_scalar(LITERAL, literal(value))


def _str(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # Within other quotes some breaks of lines come back as others, or as blanks.
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


def _int(dumper: _Dumper, value: int) -> yaml.ScalarNode:
    return _literal(dumper, value) if is_huge(value) else dumper.represent_int(value)


_Dumper.add_representer(str, _str)
_Dumper.add_representer(int, _int)
for _kind in (tuple, set, complex, EllipsisType):
    _Dumper.add_representer(_kind, _literal)


def write_yaml(document: Any, *, ascii_only: bool = False) -> str:
    """The document as YAML. Raises ValueError for what no file can hold."""
    try:
        return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only)
    except RecursionError as error:
        raise ValueError("its parts lie too deep in each other") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
