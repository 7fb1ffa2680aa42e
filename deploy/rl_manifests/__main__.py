"""Writes the generated files of ``deploy/kubernetes``. ``--check`` only reports differences."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rl_manifests import FOLDERS, rendered

KUBERNETES = Path(__file__).resolve().parent.parent / "kubernetes"


def stale(root: Path = KUBERNETES) -> list[str]:
    """Paths below ``root`` that are missing, outdated, or no longer generated."""
    wanted = rendered()
    there = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(root: Path = KUBERNETES) -> None:
    """Replace the generated folders."""
    files = rendered()
    for folder in FOLDERS:
        # Emptied first: a manifest whose source was removed must go too.
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Entry point. Returns 1 if ``--check`` finds a difference."""
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    for name in stale():
        sys.stderr.write(f"deploy/kubernetes/{name} is not what its source gives; run make kubernetes\n")
    return int(bool(stale()))


if __name__ == "__main__":
    sys.exit(main())
