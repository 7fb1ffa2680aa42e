"""Writes what a benchmark measured into a page of the documentation."""

from __future__ import annotations


def replaced(page: str, begin: str, end: str, content: str) -> str:
    """Replace what stands between two marker lines of ``page``. Raises ValueError where it lacks them."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page lacks {begin.strip()} and {end.strip()}; put them where the table belongs")
    return f"{before}{begin}{content}{end}{after}"
