"""The commands and queries that people copy from a page: those in fenced blocks, and those within a sentence."""

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

from tests.support import ROOT

PAGES = (*sorted(ROOT.glob("alerts/runbooks/*.md")), ROOT / "docs/alerts.md")
TOOLS = (
    *("amtool", "promtool", "curl", "rl-train", "rl-exporter", "make"),
    *("kubectl", "sacct", "squeue", "scancel", "py-spy", "ps", "dmesg"),
)
PLACEHOLDERS = ("RUN", "HEAD", "INSTANCE", "OPTIONS", "DIR", "TARGETS")


class Found(NamedTuple):
    """Something to copy, and where it stands. ``kind``: sh, promql, inline, or another language."""

    page: Path
    kind: str
    text: str

    @property
    def placeholders(self) -> set[str]:
        """What the reader has to replace."""
        return {name for name in PLACEHOLDERS if re.search(rf"\b{name}\b", self.text)}


def _is_command(text: str) -> bool:
    return text.split(" ", maxsplit=1)[0] in TOOLS and " " in text


def _lines(kind: str, block: str) -> list[str]:
    lines = [line.partition("    #")[0].rstrip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and (kind == "promql" or _is_command(line))]


def found_on(page: Path) -> list[Found]:
    """Everything to copy from ``page``, in order."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            kind = "promql" if token.info == "promql" else "sh"
            found += [Found(page, kind, line) for line in _lines(kind, token.content)]
        for part in token.children or ():
            if part.type == "code_inline" and _is_command(part.content):
                found.append(Found(page, "inline", part.content))
    return found


def everything() -> list[Found]:
    """From every page."""
    return [each for page in PAGES for each in found_on(page)]
