"""``rl-exporter bundle``: writes rules, alerts, templates, runbooks and dashboards for the user's own servers.

The Kubernetes manifests contain the same rules and dashboards, so they get the same links.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rl_exporter.alerting.rewriting import REPOSITORY_URL, Choices, Links, Receiver, integrations

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


def read_shipped(name: str | Path) -> str:
    """The text of a file as it is shipped; the name is relative to :func:`shipped`."""
    return (shipped() / name).read_text(encoding="utf-8")


def completed(choices: Choices) -> Choices:
    """The choices with what follows from the chosen receivers."""
    return replace(choices, integrations=integrations(read_shipped(choices.receiver.file)))


def bundle_files(choices: Choices) -> dict[Path, str]:
    """Every file of the bundle by its path, with whole configurations of the servers."""
    files = {name: choices.applied(name, read_shipped(name)) for name in shipped_files()}
    if choices.receiver is not Receiver.PAGES:
        files[Path("alerts/alertmanager.yml")] = _in_place(choices.applied(*_example(choices.receiver)))
    return files


def _example(receiver: Receiver) -> tuple[Path, str]:
    return Path(receiver.file), read_shipped(receiver.file)


def _in_place(example: str) -> str:
    """An example as the configuration itself, which lies a folder higher."""
    lines = (line for line in example.splitlines(keepends=True) if "../alertmanager.yml" not in line)
    return "".join(lines).replace("../templates/", "templates/")


def write_bundle(out: Path, files: Mapping[Path, str]) -> list[Path]:
    """Write ``files`` to ``out``, a new or empty folder. Returns their paths.

    Raises BundleError, and leaves nothing behind, if it cannot write them all, or if ``out`` is not empty: it
    may hold files that the user has edited.
    """
    written: list[Path] = []
    made = not out.exists()
    try:
        if out.exists() and any(out.iterdir()):
            raise BundleError(f"--out {str(out)!r} is not empty; give a new folder, and compare the two")
        for name, text in files.items():
            target = out / name
            written.append(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
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
