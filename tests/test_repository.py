"""Nothing lies in the repository, or in its source distribution, that is not part of the project."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support import ROOT

LARGEST = 300_000
"""Bytes. A reviewer does not read more, and whoever clones pays for every version of it."""

SUFFIXES = {".json", ".jsonl", ".md", ".py", ".sbatch", ".sh", ".svg", ".tmpl", ".toml", ".txt", ".typed"} | {
    ".yaml",
    ".yml",
}
PICTURES = {".png"}
NAMES = {".ci/run", ".dockerignore", ".gitattributes", ".gitignore", "Dockerfile", "LICENSE", "Makefile"}
AT_THE_ROOT = {
    ".dockerignore",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "constraints-lowest.txt",
    "constraints.txt",
    "docker-compose.yml",
    "pyproject.toml",
}
FOLDERS = {".ci", ".github", "alerts", "benchmarks", "deploy", "docs", "examples", "exporter", "grafana"} | {
    "prometheus",
    "stack",
    "tests",
    "training",
}


def objection(name: str, content: bytes) -> str:
    """Why a file is no part of the project; empty when it may stay."""
    path = Path(name)
    if path.parts[0] not in (AT_THE_ROOT if len(path.parts) == 1 else FOLDERS):
        return "it is at the root and not on the list"
    if len(content) > LARGEST:
        return f"it has {len(content)} bytes, more than {LARGEST}"
    if path.suffix in PICTURES and path.parts[0] == "docs":
        return ""
    if path.suffix not in SUFFIXES and path.name not in NAMES and name not in NAMES:
        return "it is of no kind that the project has"
    return "it is binary" if b"\0" in content else ""


def project_files(root: Path) -> list[str]:
    """What git tracks or is about to; of an unpacked source distribution everything but what tests make."""
    if (root / ".git").exists():
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        found = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
        return [name for name in found.split("\0") if name and (root / name).exists()]
    made = {".venv", ".servers", ".libraries", "__pycache__", "dist", "build", "PKG-INFO"}
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return [
        str(path)
        for path in paths
        if not made & set(path.parts)
        and not any(part.endswith(("_cache", ".hypothesis")) for part in path.parts)
    ]


def test_every_file_is_part_of_the_project():
    files = project_files(ROOT)
    assert len(files) > 300
    assert {name: why for name in files if (why := objection(name, (ROOT / name).read_bytes()))} == {}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("py_spy-0.4.3.whl", b"PK\3\4\0", "at the root"),
        ("notes.md", b"text", "at the root"),
        ("scratch/notes.md", b"text", "at the root"),
        ("exporter/rl_exporter/model.pt", b"PK\3\4", "of no kind"),
        ("exporter/rl_exporter/core", b"text", "of no kind"),
        ("exporter/rl_exporter/heads.py", b"text\0", "binary"),
        ("grafana/shot.png", b"\x89PNG", "of no kind"),
        ("docs/log.txt", b"x" * (LARGEST + 1), "more than"),
    ],
)
def test_that_check_refuses_a_stray_file(name, content, reason):
    assert reason in objection(name, content)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_it_finds_a_file_that_is_not_added_yet(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "stray.whl").write_bytes(b"PK")
    assert project_files(tmp_path) == ["stray.whl"]


@pytest.mark.slow
def test_the_source_distribution_holds_the_project_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {str(Path(*Path(member.name).parts[1:])) for member in tar.getmembers() if member.isfile()}
    assert names - {"PKG-INFO"} == set(project_files(ROOT))
