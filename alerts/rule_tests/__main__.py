"""``python -m rule_tests``, with ``alerts`` on the path: write the generated tests anew."""

from __future__ import annotations

from pathlib import Path

from rule_tests import files

if __name__ == "__main__":
    for name, text in files().items():
        (Path(__file__).parent.parent / "tests" / name).write_text(text, encoding="utf-8")
