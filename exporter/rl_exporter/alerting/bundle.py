"""``rl-exporter bundle``: writes rules, alerts, templates, runbooks and dashboards for the user's own servers.

The Kubernetes manifests contain the same rules and dashboards, so they get the same links.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

GRAFANA_URL = "http://127.0.0.1:3000"
"""Base of the dashboard links in the shipped alert rules."""

RUNBOOK_URL = "http://127.0.0.1:28009/runbooks"
"""Base of their runbook links: ``rl-exporter pages`` on the same machine."""

REPOSITORY_URL = "https://github.com/rl-policy-exporter/rl-policy-exporter/blob/main"
"""Base of links to files that no bundle holds, such as documentation and tests."""

_SUSTAINED = "head:rl_policy_head_condition:sustained"
BY_LEVEL: Mapping[str, str] = MappingProxyType(
    {
        'condition=~"low|collapsed|settled"': 'condition=~"warning|critical|settled"',
        f'{_SUSTAINED}{{condition="collapsed"}}': f'{_SUSTAINED}{{condition="critical"}}',
        f'{_SUSTAINED}{{condition="low"}}': f'{_SUSTAINED}{{condition="warning"}}',
    }
)
"""What the rules select by the verdict, and what they select where the level alone decides."""

_OUTSIDE = "](../../"
"""How a link in a runbook begins that leaves what a bundle holds."""

_FOLDERS = (
    "prometheus/rules",
    "prometheus/targets",
    "prometheus/alertmanagers",
    "alerts/rules",
    "alerts/templates",
    "alerts/examples",
    "alerts/runbooks",
    "grafana/dashboards",
    "grafana/provisioning",
    "deploy/kubernetes",
)
_FILES = (
    "prometheus/prometheus.yml",
    "prometheus/agent.yml",
    "prometheus/store.yml",
    "alerts/alertmanager.yml",
)
# An allow-list: editors and tools leave other files in a checkout.
_SUFFIXES = {".yml", ".yaml", ".json", ".tmpl", ".md"}


class BundleError(ValueError):
    """The bundle cannot be written. The message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Links:
    """Base URLs of the links in alerts, without a trailing slash."""

    grafana: str = GRAFANA_URL
    runbooks: str = RUNBOOK_URL

    def rewritten(self, text: str) -> str:
        """Replace the shipped base URLs in ``text``, and lead links that leave the bundle to the repository."""
        # In one pass: two replacements would rewrite a new URL that contains the other shipped one.
        pairs = {GRAFANA_URL: self.grafana, RUNBOOK_URL: self.runbooks, _OUTSIDE: f"]({REPOSITORY_URL}/"}
        return re.sub("|".join(map(re.escape, pairs)), lambda found: pairs[found[0]], text)


class PageOn(StrEnum):
    """What makes a head page: its level alone, or the verdict, which asks whether the head is blind, too."""

    VERDICT = "verdict"
    LEVEL = "level"

    def rewritten(self, text: str) -> str:
        """The text of a rule file for this choice. The shipped ones are for the verdict."""
        if self is PageOn.LEVEL:
            for verdict, level in BY_LEVEL.items():
                text = text.replace(verdict, level)
        return text


def link_base(text: str) -> str:
    """Check a base URL and strip trailing slashes. Raises ValueError with the remedy."""
    if not re.fullmatch(r"https?://[^\s\"'{}<>\\`]+", text):
        raise ValueError(f"{text!r} is no base for links; give one such as https://grafana.example.org")
    return text.rstrip("/")


def shipped() -> Path:
    """The folder with ``prometheus``, ``alerts`` and ``grafana``: the source tree, or the copy in the wheel."""
    package = Path(__file__).resolve().parents[1]
    source = package.parent.parent
    return source if (source / "alerts" / "rules").is_dir() else package / "_bundle"


def runbook(alert: str) -> Path | None:
    """Path of an alert's runbook, or None."""
    # Looked up among the files that exist, never joined: the name comes from a URL and may hold "..".
    return {path.stem: path for path in (shipped() / "alerts" / "runbooks").glob("*.md")}.get(alert)


def served_runbook(text: str) -> str:
    """A runbook whose links work at any base URL: runbooks stay beside it, files are in the repository."""
    beside = re.sub(r"\]\((RL\w+)\.md(#[\w-]+)?\)", r"](\1\2)", Links().rewritten(text))
    return beside.replace("](../", f"]({REPOSITORY_URL}/alerts/")


def shipped_files() -> Iterator[Path]:
    """Paths of all files of the bundle, relative to :func:`shipped`. Skips folders that are missing."""
    root = shipped()
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                yield path.relative_to(root)
    for name in _FILES:
        yield Path(name)


def write_bundle(out: Path, links: Links, page_on: PageOn = PageOn.VERDICT) -> list[Path]:
    """Write all files to ``out``, a new or empty folder. Returns their paths.

    Raises BundleError, and leaves nothing behind, if it cannot write them all, or if ``out`` is not empty: it
    may hold files that the user has edited.
    """
    written: list[Path] = []
    made = not out.exists()
    try:
        if out.exists() and any(out.iterdir()):
            raise BundleError(f"--out {str(out)!r} is not empty; give a new folder, and compare the two")
        for name in shipped_files():
            text = (shipped() / name).read_text(encoding="utf-8")
            target = out / name
            written.append(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if "rules" in name.parts:
                text = page_on.rewritten(text)
            target.write_text(links.rewritten(text), encoding="utf-8")
    except OSError as error:
        _remove(out, written, folder=made)
        raise BundleError(f"--out {str(out)!r}: {error.strerror}; give a folder that can be written") from error
    return written


def _remove(out: Path, written: list[Path], *, folder: bool) -> None:
    """Remove a bundle that is not complete. Half a set of rules would look like a whole one."""
    for part in {path.relative_to(out).parts[0] for path in written}:
        shutil.rmtree(out / part, ignore_errors=True)
    if folder:
        with suppress(OSError):
            out.rmdir()
