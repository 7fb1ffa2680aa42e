"""docs/security.md names, for each fault, tests that exist."""

import re

from tests.support import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_named_test_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named - DEFINED == set()


def test_every_row_has_a_test():
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| fault", "| ---"))
    ]
    assert rows
    assert [row for row in rows if "test_" not in row.rstrip("| ").rsplit("|", 1)[-1]] == []
