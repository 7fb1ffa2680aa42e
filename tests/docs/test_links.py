"""Every link of every page leads where it says, pages link to what they name, and every metric is two clicks away."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from rl_exporter.cli.main import metrics_table
from tests.support import ROOT

METRICS = re.findall(r"^\| `(rl_\w+)` \|", metrics_table(), re.MULTILINE)
RULES = (*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml"))
ALERTS = [name for path in RULES for name in re.findall(r"- alert: (RL\w+)", path.read_text())]
RUNBOOKS = sorted(ROOT.glob("alerts/runbooks/*.md"))
LINKED = [*sorted(ROOT.glob("docs/*.md")), *RUNBOOKS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
"""Pages that link to what they name."""

FOLDERS = "alerts|benchmarks|deploy|docs|examples|exporter|grafana|prometheus|stack|tests|training"
PATH = re.compile(rf"(?:{FOLDERS})/[\w./-]+")


class Link(NamedTuple):
    """A link or a picture: its text and where it goes."""

    text: str
    target: str


class Page(NamedTuple):
    """What a page has that matters here; ``names`` stand in backquotes."""

    links: list[Link]
    anchors: set[str]
    names: set[str]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def read(path: Path) -> Page:
    page = Page([], set(), set())
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type != "inline":
            continue
        said = [(part.type, part.content) for part in token.children]
        if before.type == "heading_open":
            page.anchors.add(slug("".join(text for kind, text in said if kind in {"text", "code_inline"})))
        page.names.update(text for kind, text in said if kind == "code_inline")
        page.anchors.update(
            found for text in [token.content] for found in re.findall(r'<a id="([^"]+)">', text)
        )
        for start, part in enumerate(token.children):
            if part.type == "image":
                page.links.append(Link("", part.attrs["src"]))
            if part.type == "link_open":
                ends = next(i for i, p in enumerate(token.children[start:], start) if p.type == "link_close")
                text = "".join(p.content for p in token.children[start:ends])
                page.links.append(Link(text, part.attrs["href"]))
    return page


def destination(page: Path, link: Link) -> tuple[Path, str]:
    parts = urlsplit(link.target)
    return (page.parent / unquote(parts.path)).resolve() if parts.path else page, parts.fragment


def objection(page: Path, link: Link, root: Path) -> str:
    """What is wrong with a link; empty when it leads where its text says."""
    if urlsplit(link.target).scheme in {"http", "https"}:
        return ""
    path, anchor = destination(page, link)
    if link.target.startswith("/") or not path.is_relative_to(root):
        return "leaves the project"
    if not path.exists():
        return "there is no such file"
    if anchor and (path.suffix != ".md" or anchor not in read(path).anchors):
        return f"{path.name} has no anchor {anchor!r}"
    name = link.text.rstrip("/")
    if re.fullmatch(r"[\w./-]+\.[a-z]+|[\w.-]+/[\w./-]+", name) and not f"/{path.as_posix()}".endswith(
        f"/{name}"
    ):
        return f"the text says {name}"
    if name.startswith("test_") and "." not in name and f"def {name}(" not in path.read_text():
        return f"{path.name} does not define {name}"
    if (name in METRICS and anchor != name) or (name in ALERTS and path.stem != name):
        return f"the text says {name}"
    return ""


def pages() -> list[Path]:
    """All Markdown files that git tracks or is about to; in an unpacked source distribution, all there are."""
    if (ROOT / ".git").exists():
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).exists()]
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return [ROOT / path for path in found if not any(part.startswith(".") for part in path.parts)]


def wrong(found: list[Path], root: Path = ROOT) -> dict[str, str]:
    return {
        f"{page.relative_to(root)}: {link.target}": why
        for page in found
        for link in read(page).links
        if (why := objection(page, link, root))
    }


def test_every_link_leads_where_it_says():
    found = pages()
    assert len(found) > 40
    assert sum(len(read(page).links) for page in found) > 500
    assert wrong(found) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[other](other.md)", ""),
        ("[other](other.md#a-heading-with-code)", ""),
        ("[here](#here)", ""),
        ("[`rl_policy_loss`](other.md#rl_policy_loss)", ""),
        ("[`test_it`](test_it.py)", ""),
        ("[elsewhere](https://example.org/nothing)", ""),
        ("`[no link](nothing.md)`", ""),
        ("[other](gone.md)", "no such file"),
        ("![picture](gone.png)", "no such file"),
        ("| a |\n| --- |\n| [in a table](gone.md) |", "no such file"),
        ("[over\ntwo lines](gone.md)", "no such file"),
        ("[other](other.md#gone)", "no anchor 'gone'"),
        ("[other](test_it.py#L1)", "no anchor 'L1'"),
        ("[outside](../../outside.md)", "leaves the project"),
        ("[root](/other.md)", "leaves the project"),
        ("[`docs/page.md`](other.md)", "the text says docs/page.md"),
        ("[page.md](other.md)", "the text says page.md"),
        ("[`rl_value_loss`](other.md#rl_policy_loss)", "the text says rl_value_loss"),
        ("[RLTrainingFailed](other.md)", "the text says RLTrainingFailed"),
        ("[`test_that`](test_it.py)", "does not define test_that"),
    ],
)
def test_that_check_sees_a_link_that_does_not(text, reason, tmp_path):
    (tmp_path / "other.md").write_text('# A heading, with `code`\n\n- <a id="rl_policy_loss"></a>loss\n')
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{text}\n")
    found = "".join(wrong([page], tmp_path).values())
    assert reason in found
    assert bool(reason) == bool(found)


def unlinked(page: Path) -> set[str]:
    """Metrics, alerts and files that a page names and does not link to."""
    text = page.read_text(encoding="utf-8")
    ends = [destination(page, link) for link in read(page).links]
    known = read(page).anchors | {anchor for _, anchor in ends} | {path.stem for path, _ in ends} | {page.stem}
    files = {path.relative_to(ROOT).as_posix() for path, _ in ends if path.is_relative_to(ROOT)}
    names = {name for name in METRICS if re.search(rf"\b{name}(_sum|_count|_bucket)?\b", text)}
    return (
        {name for name in names if name not in known}
        | {name for name in ALERTS if re.search(rf"\b{name}\b", text) and name not in known}
        | {name for name in read(page).names if PATH.fullmatch(name) and name.rstrip("/") not in files}
    )


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_a_page_links_to_what_it_names(page):
    assert unlinked(page) == set()
    assert len(read(page).links) > 1


def test_that_check_sees_what_is_not_linked(tmp_path):
    page = tmp_path / "RLTrainingFailed.md"
    page.write_text("`rl_policy_loss`, `alerts/rules/heads.yml`, RLTrainingFailed, RLTrainingVanished\n")
    assert unlinked(page) == {"rl_policy_loss", "alerts/rules/heads.yml", "RLTrainingVanished"}


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_links_to_its_rule_and_its_tests(runbook):
    (rule,) = [path for path in RULES if f"- alert: {runbook.stem}\n" in path.read_text()]
    ends = {destination(runbook, link)[0] for link in read(runbook).links}
    assert rule in ends
    assert any(path.is_relative_to(ROOT / "tests") for path in ends)


def test_every_page_is_in_the_index():
    listed = {destination(ROOT / "docs/README.md", link)[0] for link in read(ROOT / "docs/README.md").links}
    assert {page for page in ROOT.glob("docs/*.md") if page not in listed} == {ROOT / "docs/README.md"}


COLUMNS = ("metric", "computation", "rule", "dashboard", "runbook", "test")


def rows(text: str) -> dict[str, dict[str, str]]:
    """The architecture page's rows by metric, each by column."""
    found = re.findall(r"^\| \[`(rl_\w+)`\]\([^)]*\) (\|.*) \|$", text, re.MULTILINE)
    return {name: dict(zip(COLUMNS[1:], cells[2:].split(" | "), strict=True)) for name, cells in found}


def stale(name: str, row: dict[str, str]) -> list[str]:
    """Columns of a metric's row that do not lead to what there is."""
    rules = {path.name for path in RULES if re.search(rf"\b{name}(_sum|_count|_bucket)?\b", path.read_text())}
    linked = set(re.findall(r"\[(\w+\.yml)\]", row["rule"]))
    books = [ROOT / f"alerts/runbooks/{alert}.md" for alert in re.findall(r"\[(\w+)\]", row["runbook"])]
    problems = [] if rules == linked else ["rule"]
    problems += ["runbook"] * any(name not in book.read_text() for book in books)
    return problems + [column for column in ("computation", "test") if "](" not in row[column]]


def test_every_metric_is_on_its_page_and_leads_to_everything_about_it():
    found = rows((ROOT / "docs/architecture.md").read_text())
    assert set(found) == set(METRICS)
    assert set(METRICS) <= read(ROOT / "docs/metrics.md").anchors
    assert {name: problems for name, row in found.items() if (problems := stale(name, row))} == {}


def test_that_check_sees_a_row_that_fell_behind():
    row = rows((ROOT / "docs/architecture.md").read_text())["rl_policy_head_entropy_slope_ratio"]
    assert stale("rl_policy_head_entropy_slope_ratio", row) == []
    assert stale("rl_policy_head_entropy_slope_ratio", row | {"rule": "-"}) == ["rule"]
    assert stale("rl_policy_head_entropy_slope_ratio", row | {"runbook": "[RLTrainingFailed](x)"}) == [
        "runbook"
    ]
    assert stale("rl_policy_head_entropy_slope_ratio", row | {"computation": "-", "test": "-"}) == [
        "computation",
        "test",
    ]
