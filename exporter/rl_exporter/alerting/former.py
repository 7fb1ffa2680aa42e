"""What a former bundle put into a configuration: it is taken out, and the present one takes its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from rl_exporter.alerting.bundle import BundleError
from rl_exporter.alerting.fragments import Fragment

MARK = "# rl-policy-exporter"
"""A comment before what was put in, for whoever reads the file later."""

_OUR_ALERTS = re.compile(r'alertname=~?"RL')
_EDITED = ("scrape_configs", "route.routes")
"""Lists to whose items people add lines, such as a password or ``continue``. These are kept."""


class Prepared(NamedTuple):
    """A configuration without what a former bundle put in, and what the present one puts in."""

    text: str
    document: dict[str, Any]
    fragment: Fragment


def without_former(text: str, document: dict[str, Any], fragment: Fragment, where: str) -> Prepared:
    """Take out what a former bundle put in. Receivers stay: their addresses are the user's.

    Raises BundleError, in one line with the remedy, if it is written in a way that cannot be taken out.
    """
    lists = {path: listed(document, path) for path in fragment}
    former = {path: _ours(path, lists[path], fragment[path]) for path in fragment}
    if not any(former.values()):
        return Prepared(text, document, fragment)
    shorter = _shortened(text, former)
    left = {
        path: [one for number, one in enumerate(items) if number not in former[path]]
        for path, items in lists.items()
    }
    after = None if shorter is None else yaml.safe_load(shorter)
    if shorter is None or not isinstance(after, dict) or not _as_before(document, after, left):
        raise BundleError(
            f"{where} holds what a former bundle put in, in a way that this cannot replace; take the items of "
            "that bundle's fragments/ out of it, and run this again"
        )
    return Prepared(shorter, after, _renewed(fragment, lists, former))


def listed(document: Mapping[str, Any], path: str) -> list[Any]:
    """The list at a path with dots; an empty one where there is none."""
    place: Any = document
    for key in path.split("."):
        place = place.get(key) if isinstance(place, dict) else None
    return place if isinstance(place, list) else []


def values(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Nodes of keys and values of a mapping; none of anything else."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: (key, value) for key, value in pairs}


def _ours(path: str, there: Sequence[Any], items: Sequence[Any]) -> list[int]:
    """Where in a list the items of a former bundle are, whatever their names, labels and other lines."""
    return [number for number, item in enumerate(there) if _is_ours(path, item, items)]


def _is_ours(path: str, item: Any, items: Sequence[Any]) -> bool:
    if not isinstance(item, dict):
        return item in items
    if path == "scrape_configs":
        return bool(item.get("file_sd_configs")) and _targets(item) == _targets(items[0])
    if path == "route.routes":
        return items[0]["matchers"][0] in (item.get("matchers") or [])
    if path == "inhibit_rules":
        return all(_OUR_ALERTS.match(str(one)) for one in (item.get("source_matchers") or [""])[:1])
    return False


def _targets(job: Mapping[str, Any]) -> list[Any]:
    return [discovery.get("files") for discovery in job["file_sd_configs"]]


def _renewed(
    fragment: Fragment, lists: Mapping[str, Sequence[Any]], former: Mapping[str, Sequence[int]]
) -> Fragment:
    """What to put in: the lines that somebody added are kept, and so are receivers that our route had."""
    renewed = dict(fragment)
    for path in _EDITED:
        for number in former.get(path, ()):
            [item] = renewed[path]
            renewed[path] = [item | {key: more for key, more in lists[path][number].items() if key not in item}]
    if former.get("route.routes"):
        names = {receiver.get("name") for receiver in lists["receivers"]}
        renewed["receivers"] = [one for one in fragment["receivers"] if one["name"] not in names]
    return renewed


def _shortened(text: str, former: Mapping[str, Sequence[int]]) -> str | None:
    """The text without these items; None where that is no YAML any more."""
    try:
        for path, numbers in former.items():
            for number in reversed(numbers):
                node = yaml.compose(text, yaml.SafeLoader)
                for key in path.split("."):
                    node = values(node)[key][1]
                assert isinstance(node, yaml.SequenceNode)
                text = _without(text, node, number)
        yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    return text


def _without(text: str, sequence: yaml.SequenceNode, number: int) -> str:
    item = sequence.value[number]
    if sequence.flow_style:
        last = number + 1 == len(sequence.value)
        start = sequence.value[number - 1].end_mark if number and last else item.start_mark
        rest = text[item.end_mark.index :]
        return text[: start.index] + (rest if last else re.sub(r"\A\s*, ?", "", rest))
    lines = text.splitlines(keepends=True)
    first = item.start_mark.line
    while first and lines[first - 1].strip() == MARK:
        first -= 1
    return "".join([*lines[:first], *lines[_last_line(item) + 1 :]])


def _last_line(node: yaml.Node) -> int:
    """The line on which a node ends. The mark of a block is where the next one begins, behind its comments."""
    if isinstance(node, yaml.ScalarNode):
        return int(node.end_mark.line) - (node.style in {"|", ">"})
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(map(_last_line, last)) if isinstance(last, tuple) else _last_line(last)
    return int(node.end_mark.line)


def _as_before(before: dict[str, Any], after: dict[str, Any], left: Mapping[str, list[Any]]) -> bool:
    """Whether nothing but the items that were taken out is missing."""
    same = all(listed(after, path) == items for path, items in left.items())
    return same and _rest(before, left) == _rest(after, left)


def _rest(document: dict[str, Any], paths: Mapping[str, list[Any]]) -> dict[str, Any]:
    """A document without these lists, each at the top or in a mapping at the top."""
    rest = {key: value for key, value in document.items() if key not in paths}
    for path in paths:
        parent, _, key = path.rpartition(".")
        if parent and isinstance(rest.get(parent), dict):
            rest[parent] = {name: value for name, value in rest[parent].items() if name != key}
    return rest
