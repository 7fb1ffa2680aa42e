"""Writes every dashboard as JSON. With ``--check``, only reports committed files that differ."""

from __future__ import annotations

import sys
from pathlib import Path

from rl_dashboards.dashboards import IMPORTED, PROVISIONED, rendered

FOLDER = Path(__file__).resolve().parent.parent


def _there(folder: Path) -> dict[str, Path]:
    return {
        f"{part}/{path.name}": path
        for part in (PROVISIONED, IMPORTED)
        for path in (folder / part).glob("*.json")
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of files that are missing, outdated, or no longer generated."""
    wanted = rendered()
    there = {name: path.read_text(encoding="utf-8") for name, path in _there(folder).items()}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main() -> int:
    """Entry point. Returns 1 if ``--check`` finds a difference."""
    if "--check" in sys.argv[1:]:
        for name in stale():
            sys.stderr.write(f"grafana/{name} is not what its source gives; run make dashboards\n")
        return int(bool(stale()))
    # Removed first: a dashboard whose source was removed must go too.
    for path in _there(FOLDER).values():
        path.unlink()
    for name, text in rendered().items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
