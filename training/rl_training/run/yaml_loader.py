"""YAML as people write it in a configuration file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from rl_training.literals import parse_literal

LITERAL = "!literal"
"""Tag of a text that is written as after ``--env-arg KEY=``: YAML has no tuples."""

_FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class Loader(yaml.SafeLoader):
    """3e-4 is a number, a key that comes twice is a mistake, and whatever cannot be read has a line."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. Raises ConstructorError."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                # What a template with {{ name }} is, where nothing has filled it in.
                raise _error("a mapping or a list stands where a key belongs", key)
            # With its tag: 1 is another key than '1'.
            if (key.tag, key.value) in seen:
                raise _error(f"key {key.value!r} occurs twice", key)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """What a node stands for. Raises ConstructorError."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            # Of a date that does not exist, digits that are none of their base, text after a tag of a number.
            raise _error(
                f"{str(node.value)[:80]!r} cannot be read: {' '.join(str(error).split())}", node
            ) from error


def _error(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _literal(loader: Loader, node: yaml.Node) -> Any:
    return parse_literal(str(loader.construct_scalar(node)))  # type: ignore[arg-type] # it refuses other nodes


Loader.add_constructor(LITERAL, _literal)
