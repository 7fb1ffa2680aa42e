"""Everything that a bundle for existing servers holds, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from rl_exporter.alerting.fragments import RULES, alertmanager_fragment, fragment_files, prometheus_fragment
from rl_exporter.alerting.merging import merged, refuse_same_groups
from rl_exporter.alerting.rewriting import Choices

_PROMETHEUS, _ALERTMANAGER = Path("prometheus/prometheus.yml"), Path("alertmanager/alertmanager.yml")


def existing_files(choices: Choices, prometheus: Path | None, alertmanager: Path | None) -> dict[Path, str]:
    """The fragments and the files that they name, and the configurations that were given, merged.

    Raises BundleError if one of them cannot be merged into.
    """
    files = fragment_files(choices)
    if prometheus is not None:
        files[_PROMETHEUS] = merged(prometheus, "--prometheus", prometheus_fragment(choices))
        refuse_same_groups(prometheus, _groups(files))
    if alertmanager is not None:
        files[_ALERTMANAGER] = merged(alertmanager, "--alertmanager", alertmanager_fragment(choices))
    return files


def _groups(files: Mapping[Path, str]) -> frozenset[str]:
    rules = (yaml.safe_load(text) for name, text in files.items() if name.parent == RULES)
    return frozenset(group["name"] for document in rules for group in document["groups"])


def next_steps(out: Path, files: Mapping[Path, str], into_existing: bool) -> str:
    """What to do with a bundle that was written to ``out``."""
    if not into_existing:
        return f"Prometheus starts with --config.file={out / 'prometheus' / 'prometheus.yml'}"
    by_hand = [place.name for place in (_PROMETHEUS, _ALERTMANAGER) if place not in files]
    merge = "".join(f"; merge {out / 'fragments' / name} into {name}" for name in by_hand)
    return f"copy {out}/prometheus and {out}/alertmanager beside the servers' configurations{merge}"
