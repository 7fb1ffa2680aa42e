"""Checks labels of a target, such as the cluster, before Prometheus rejects the whole file for one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rl_exporter.heads import require_label_value
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = {
    "run_id",
    "le",
    *(label for metric in (*UPDATE_METRICS, *LIVE_METRICS) for label in metric.labels),
    *(label for _, _, labels, _ in SELF_METRICS for label in labels),
}
"""Labels of the metrics themselves. Prometheus would rename them to exported_…, and no rule would match."""


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``labels`` if Prometheus accepts them. Raises ValueError that names the label and the remedy."""
    for name, value in labels.items():
        reason = _label_error(name, value)
        if reason:
            raise ValueError(f"label {name!r} is not possible: {reason}; write for example cluster=lab")
        require_label_value(f"value of label {name}", value)
    return labels


def _label_error(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        return "a name has letters, digits and _, and no digit first"
    if name == "run_id":
        return "every series carries its own run_id"
    if name.startswith("__"):
        return "names that begin with __ are Prometheus' own"
    if name in _OWN:
        return "the metrics of a run have a label of that name"
    return "" if value else "it is empty, and Prometheus drops an empty label"


def parse_label(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE and check it. Raises ValueError with the remedy."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE; write for example cluster=lab")
    check_labels({name: value})
    return name, value
