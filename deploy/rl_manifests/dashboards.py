"""Puts every dashboard into a ConfigMap with the label that the sidecar of Grafana's Helm chart looks for."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from rl_manifests.sources import ROOT, head, indented


def sources() -> list[Path]:
    """Paths of the dashboards."""
    return sorted(ROOT.glob("grafana/dashboards/*.json"))


def files() -> dict[str, str]:
    """Text of each manifest by file name."""
    return {f"{source.stem}.yaml": _manifest(source) for source in sources()}


def _manifest(source: Path) -> str:
    provisioning = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/rl.yml").read_text("utf-8"))
    return (
        head(source, "v1", "ConfigMap", f"{source.stem}-dashboard")
        + '    grafana_dashboard: "1"\n'
        + f"  annotations:\n    grafana_folder: {provisioning['providers'][0]['folder']}\n"
        + f"data:\n  {source.name}: |\n{indented(_compact(source.read_text('utf-8')), 4)}"
    )


def _compact(text: str) -> str:
    """The same JSON on one line: kubectl keeps a copy in an annotation, which has a limit."""
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) + "\n"
