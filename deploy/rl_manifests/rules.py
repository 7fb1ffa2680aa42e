"""Turns every rule file into a PrometheusRule. Its text is kept, comments included."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from rl_manifests.sources import ROOT, head, indented

_GROUP_WITHOUT_INTERVAL = re.compile(r"^  - name: .+\n(?!    interval: )", re.MULTILINE)


def sources() -> list[Path]:
    """Paths of the recording and alert rules."""
    return sorted([*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml")])


def files() -> dict[str, str]:
    """Text of each manifest by file name."""
    return {f"{source.stem}.yaml": _manifest(source) for source in sources()}


def _manifest(source: Path) -> str:
    # The rules are tested at this interval; the operator's default is twice as long.
    interval = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text("utf-8"))["global"][
        "evaluation_interval"
    ]
    text = _GROUP_WITHOUT_INTERVAL.sub(
        lambda found: f"{found[0]}    interval: {interval}\n", source.read_text("utf-8")
    )
    lines = head(source, "monitoring.coreos.com/v1", "PrometheusRule", f"rl-{source.stem}")
    return f"{lines}spec:\n{indented(text, 2)}"
