"""Puts fragments into the text of a configuration that exists, and leaves every line of it as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rl_exporter.alerting.bundle import BundleError
from rl_exporter.alerting.former import MARK, listed, values, without_former
from rl_exporter.alerting.fragments import OUR_RULES, Fragment, shown

_NAMES = {"scrape_configs": ("job", "job_name"), "receivers": ("receiver", "name")}
"""Lists whose items have names that must differ: what an item is, and the key of its name."""


def merged(path: Path, option: str, fragment: Fragment) -> str:
    """The text of the configuration at ``path``, which ``option`` named, with the fragment in it.

    What a former bundle put in is replaced. Raises BundleError, in one line with the remedy, if the file cannot
    be read, has an item of the same name already, or is written in a way that cannot be continued line by line.
    """
    text, where = _read(path, option), f"{option} {str(path)!r}"
    text, document, fragment = without_former(text, _mapping(text, where), fragment, where)
    for key, items in fragment.items():
        _refuse_same_names(where, key, document, items)
    whole = _continued(text, fragment)
    if whole is None or yaml.safe_load(whole) != _expected(document, fragment):
        raise BundleError(
            f"{where} is written in a way that this cannot continue; leave the option out, and put the items "
            "of fragments/ into it by hand"
        )
    return whole


def _continued(text: str, fragment: Fragment) -> str | None:
    """The text with every item in its list; None where that is no YAML any more."""
    try:
        for key, items in fragment.items():
            if items:
                text = _inserted(text, key.split("."), items)
        yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    return text


def refuse_same_groups(prometheus: Path, ours: frozenset[str]) -> None:
    """Raise BundleError where a rule file that ``prometheus`` names has a group of the same name.

    Those of a former bundle give way to the present ones.
    """
    for pattern in _document(prometheus).get("rule_files") or []:
        for path in sorted(_matching(prometheus.parent, str(pattern))):
            if path.parent == prometheus.parent / OUR_RULES:
                continue
            same = sorted(ours & set(_groups(path)))
            if same:
                raise BundleError(
                    f"{str(path)!r} has a group {same[0]!r} already; rename it, because "
                    "RLMonitoringRuleFailures tells groups by their names"
                )


def _document(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    absolute = Path(pattern)
    if absolute.is_absolute():
        folder, pattern = Path(absolute.anchor), str(absolute.relative_to(absolute.anchor))
    return folder.glob(pattern)


def _groups(path: Path) -> Iterator[str]:
    """Names of the groups of a rule file; none of one that cannot be read, which Prometheus refuses as well."""
    try:
        yield from (str(group["name"]) for group in _document(path)["groups"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BundleError(f"{option} {str(path)!r}: {reason}; give the configuration to merge into") from error


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BundleError(f"{where}, line {line}: {error.problem}; correct the YAML") from error
    except yaml.YAMLError as error:
        raise BundleError(f"{where}: {' '.join(str(error).split())[:160]}; correct the YAML") from error
    if not isinstance(document, dict):
        raise BundleError(f"{where} is no configuration: it holds no keys; give the file of the server")
    return document


def _refuse_same_names(where: str, key: str, document: dict[str, Any], items: list[Any]) -> None:
    if key == "route.routes" and not isinstance(document.get("route"), dict):
        raise BundleError(f"{where} has no route; give the configuration of an Alertmanager")
    if key not in _NAMES:
        return
    what, name = _NAMES[key]
    there = {item.get(name) for item in listed(document, key) if isinstance(item, dict)}
    same = [item[name] for item in items if item[name] in there]
    if same:
        raise BundleError(f"{where} has a {what} {same[0]!r} already; give --job with another name")


def _expected(document: dict[str, Any], fragment: Fragment) -> dict[str, Any]:
    """The document with the items first in their lists."""
    expected = dict(document)
    for path, items in fragment.items():
        *parents, key = path.split(".")
        place = expected
        for parent in parents:
            place[parent] = dict(place[parent])
            place = place[parent]
        place[key] = [*items, *(place.get(key) or [])] if items else place.get(key)
    return expected


def _inserted(text: str, path: list[str], items: list[Any]) -> str:
    """The text with the items first in the list at ``path``. What is odd about it shows in the comparison."""
    node = yaml.compose(text, yaml.SafeLoader)
    for parent in path[:-1]:
        node = values(node)[parent][1]
    keys = values(node)
    if path[-1] not in keys:
        return _with_new_key(text, node, path, items)
    key, value = keys[path[-1]]
    if isinstance(value, yaml.SequenceNode) and value.flow_style:
        return _into_flow(text, value, items)
    if isinstance(value, yaml.SequenceNode):
        column = value.start_mark.column
        return _before_line(text, value.start_mark.index - column, items, column)
    # The key stands alone, without a value, but for a comment.
    end = text.find("\n", key.end_mark.index) + 1 or len(text)
    gap = "" if text[:end].endswith("\n") else "\n"
    return f"{text[:end]}{gap}{_block(items, key.start_mark.column + 2)}{text[end:]}"


def _with_new_key(text: str, node: yaml.Node | None, path: list[str], items: list[Any]) -> str:
    if len(path) == 1:
        gap = "" if text.endswith("\n") else "\n"
        return f"{text}{gap}\n{path[0]}:\n{_block(items, 2)}"
    assert node is not None
    column = node.start_mark.column
    start = node.start_mark.index - column
    return f"{text[:start]}{' ' * column}{path[-1]}:\n{_block(items, column + 2)}{text[start:]}"


def _into_flow(text: str, value: yaml.SequenceNode, items: list[Any]) -> str:
    # JSON is YAML's flow style.
    at = value.start_mark.index + 1
    more = ", ".join(json.dumps(item, ensure_ascii=False) for item in items)
    return f"{text[:at]}{more}{', ' if value.value else ''}{text[at:]}"


def _before_line(text: str, start: int, items: list[Any], column: int) -> str:
    return f"{text[:start]}{' ' * column}{MARK}\n{_block(items, column)}{text[start:]}"


def _block(items: list[Any], column: int) -> str:
    lines = shown(items).splitlines(keepends=True)
    # shown() indents a list at the top by nothing.
    return "".join(f"{' ' * column}{line}" if line.strip() else line for line in lines)
