"""Copies the shipped configuration with other intervals and addresses, so that tests run what users run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rl_exporter.alerting.bundle import shipped, shipped_files

PROMETHEUS, ALERTMANAGER, PAGES = "127.0.0.1:9090", "127.0.0.1:9093", "127.0.0.1:28009"
"""The addresses in the shipped files."""

DURATION = re.compile(r"(?<![\w.-])(?:\d+(?:ms|[smhd]))+(?![\w.-])")
"""A duration in PromQL or in a configuration file, such as 15s or 4m30s."""

AGE = re.compile(r"(?<=[>=] )(?:60|600)\b")
"""Seconds that a rule compares an age with. Plain numbers, because PromQL before 3.0 has no duration there."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Changes:
    """Differences of a copy: ``faster`` divides every duration, ``addresses`` maps old ones to new."""

    faster: float = 1.0
    addresses: Mapping[str, str] = field(default_factory=dict)

    def applied(self, text: str) -> str:
        """Apply the changes to ``text``."""
        if self.addresses:  # in one pass: a new address may equal another old one
            pattern = "|".join(map(re.escape, self.addresses))
            text = re.sub(pattern, lambda found: self.addresses[found[0]], text)
        if self.faster == 1:
            return text
        return AGE.sub(lambda found: f"{int(found[0]) / self.faster:g}", DURATION.sub(self._shortened, text))

    def _shortened(self, found: re.Match[str]) -> str:
        parts = re.findall(r"(\d+)(ms|[smhd])", found[0])
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
        return f"{round(1000 * seconds / self.faster)}ms" if seconds else found[0]


def write_configuration(folder: Path, changes: Changes) -> None:
    """Write the configuration of Prometheus and Alertmanager, rules and templates under ``folder``.

    The folder of targets is there, too: Prometheus logs an error if it must watch one that is not.
    """
    (folder / "prometheus/targets").mkdir(parents=True, exist_ok=True)
    for name in shipped_files():
        if name.suffix == ".md" or name.parts[0] == "grafana":
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(changes.applied((shipped() / name).read_text(encoding="utf-8")), encoding="utf-8")
