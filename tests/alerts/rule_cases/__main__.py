"""``python -m tests.alerts.rule_cases`` replaces the generated tests in ``alerts/tests``."""

from __future__ import annotations

from pathlib import Path

from tests.alerts.rule_cases import files

if __name__ == "__main__":
    folder = Path(__file__).parents[3] / "alerts" / "tests"
    for former in folder.glob("*.yml"):
        former.unlink()
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
