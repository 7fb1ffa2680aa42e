"""Lays out the panel as lines of text of a given width: one column for each head, in as few blocks as fit."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from rl_exporter.health import HeadState, Level, Thresholds
from rl_exporter.view.cells import DECIDED, NO_CHOICE, SYMBOLS, Bar, Cell, Part, Tone
from rl_exporter.view.environment import Fact
from rl_exporter.view.findings import Finding
from rl_exporter.view.run_view import HeadColumn, RunView

Line = tuple[Cell, ...]

_LABEL_WIDTH = 8
_MIN_COLUMN, _MAX_COLUMN = 12, 24
_GAPS = (2, 1)
_WORD_WIDTH = 10
_MIN_TEXT = 30
_MAX_FINDINGS = 5
"""The first are the worst; more would push the heads off a small terminal."""

# Cut in the middle like a name, it would hardly be readable.
_SHORT_WORDS = {HeadState.DETERMINISTIC.value: "determin."}
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def lay_out(view: RunView, width: int, *, with_legend: bool = False) -> list[Line]:
    """Lay out the whole panel in lines of at most ``width`` columns, but at least 20."""
    width = max(width, 20)
    lines = flow([(cell,) for cell in view.title], width)
    lines += _fact_lines(view.facts, width)
    lines += [(), *finding_lines(view.findings, width)]
    for block in _blocks(view.heads, view.labels, width):
        lines += [(), *block]
    if view.environment:
        lines += [(), *(line for facts in view.environment for line in _fact_lines(facts, width))]
    if with_legend and view.heads:
        lines += [(), *legend(width, view.thresholds)]
    return lines


def _fact_lines(facts: Sequence[Fact], width: int) -> list[Line]:
    return flow([(Cell(f"{label} ", Tone.DIM), cell) for label, cell in facts], width)


def plain_text(lines: Iterable[Line]) -> str:
    """Join the lines, without colours."""
    return "".join("".join(cell.text for cell in line).rstrip() + "\n" for line in lines)


def legend(width: int, thresholds: Thresholds | None = None) -> list[Line]:
    """Explain symbols, letters and colours. ``thresholds`` of all heads; None where each has its own."""
    states: list[Line] = [(symbol, Cell(f" {state.value}")) for state, symbol in SYMBOLS.items()]
    dim = [(DECIDED, Cell(" dim: settled")), (NO_CHOICE, Cell(" had no choice"))]
    after = list(SYMBOLS).index(HeadState.DETERMINISTIC) + 1
    levels: list[Line] = [
        (Cell(level[0].upper(), level=level), Cell(f" {level.value}{_limit(level, thresholds)}"))
        for level in Level
    ]
    return flow([*states[:after], *dim, *states[after:]], width) + flow(levels, width)


def _limit(level: Level, thresholds: Thresholds | None) -> str:
    """Where a level begins, in words."""
    if thresholds is None:
        return ", above its head's own threshold" if level is Level.HEALTHY else ", at or below it"
    if level is Level.HEALTHY:
        highest = thresholds.warning or thresholds.critical
        return f", above {highest:g}" if highest else ""
    limit = thresholds.warning if level is Level.WARNING else thresholds.critical
    return f", at or below {limit:g}" if limit else ", switched off"


def flow(items: Sequence[Line], width: int, gap: int = 3) -> list[Line]:
    """Place items side by side, as many as fit on a line. An item is never split."""
    lines: list[Line] = []
    used = 0
    for item in items:
        taken = sum(text_width(cell.text) for cell in item)
        if lines and used + gap + taken <= width:
            lines[-1] = (*lines[-1], Cell(" " * gap), *item)
            used += gap + taken
        else:
            lines.append(_fitted(item, width))
            used = taken
    return lines


def _fitted(line: Line, width: int) -> Line:
    cells = []
    for cell in line:
        cells.append(_cut(cell, width))
        width -= text_width(cells[-1].text)
    return tuple(cells)


def finding_lines(findings: Sequence[Finding], width: int) -> list[Line]:
    """Lay out the first findings, one below the other."""
    lines = [
        line
        for finding in findings[:_MAX_FINDINGS]
        for line in _finding(finding, _indent(findings, width), width)
    ]
    if len(findings) > _MAX_FINDINGS:
        lines.append((Cell(f"{'':{_WORD_WIDTH}}and {len(findings) - _MAX_FINDINGS} more", Tone.DIM),))
    return lines


def _indent(findings: Sequence[Finding], width: int) -> int:
    heads = max((text_width(finding.head) + 2 for finding in findings if finding.head), default=0)
    indent = _WORD_WIDTH + min(heads, width // 3)
    return indent if width - indent >= _MIN_TEXT else 2


def _finding(finding: Finding, indent: int, width: int) -> Iterator[Line]:
    """Lay out word and head, with the text beside them, or below them on a narrow terminal."""
    beside = indent >= _WORD_WIDTH
    name = shortened(finding.head, indent - _WORD_WIDTH - 2 if beside else width - _WORD_WIDTH)
    title = (Cell(finding.word.ljust(_WORD_WIDTH), finding.tone), Cell(name, Tone.STRONG))
    texts = textwrap.wrap(finding.text, width - indent) or [""]
    if beside:
        fill = " " * (indent - _WORD_WIDTH - text_width(name))
        yield (*title, Cell(fill + texts.pop(0)))
    else:
        yield title
    for text in texts:
        yield (Cell(" " * indent + text),)


def _blocks(heads: Sequence[HeadColumn], labels: Sequence[str], width: int) -> Iterator[list[Line]]:
    """Spread the heads' columns evenly over as few blocks as the width allows."""
    if not heads:
        return
    room = width - _LABEL_WIDTH
    needed = min(max(_MIN_COLUMN, *map(_needed_width, heads)), _MAX_COLUMN, room)
    # The wide gap, unless the narrow one saves a block.
    gap = min(_GAPS, key=lambda gap: _block_count(len(heads), room, needed, gap))
    each = math.ceil(len(heads) / _block_count(len(heads), room, needed, gap))
    column = max(min((room + gap) // each - gap, _MAX_COLUMN), needed)
    for first in range(0, len(heads), each):
        yield _block(heads[first : first + each], labels, column, gap)


def _block_count(heads: int, room: int, column: int, gap: int) -> int:
    return math.ceil(heads / max((room + gap) // (column + gap), 1))


def _needed_width(head: HeadColumn) -> int:
    """Width of a head's name and widest numbers. Bars and state words adapt to what is left."""
    return max(
        text_width(head.name.text), *(_parts_width(head.rows[label]) for label in ("Entr", "Choice", "NaN/Inf"))
    )


def _parts_width(parts: Sequence[Part]) -> int:
    return sum(text_width(part.text) for part in parts if isinstance(part, Cell)) + len(parts) - 1


def _block(heads: Sequence[HeadColumn], labels: Sequence[str], column: int, gap: int) -> list[Line]:
    def line(label: str, cells: Iterable[Line]) -> Line:
        row = [Cell(label.ljust(_LABEL_WIDTH), Tone.DIM)]
        for parts in cells:
            row += [*parts, Cell(" " * (column + gap - sum(text_width(part.text) for part in parts)))]
        return tuple(row[:-1])

    names = line("", [(_cut(head.name, column),) for head in heads])
    return [
        names,
        *(line(label, [_drawn(label, head.rows[label], column) for head in heads]) for label in labels),
    ]


def _drawn(label: str, parts: Sequence[Part], column: int) -> Line:
    if label == "History":
        return tuple(part for part in parts[-column:] if isinstance(part, Cell))
    if label == "Action":
        parts = _share_kept(parts, column)
    cells: list[Cell] = []
    for part in parts:
        if cells:
            cells.append(Cell(" "))
        used = sum(text_width(cell.text) for cell in cells)
        cells += bar_cells(part, column - used) if isinstance(part, Bar) else [_cut(part, column - used)]
    return tuple(cells)


def _share_kept(parts: Sequence[Part], column: int) -> Sequence[Part]:
    """Cut the name of an action rather than its share, which says more."""
    name, *rest = parts
    if not isinstance(name, Cell) or not rest:
        return parts
    return _cut(name, column - _parts_width(rest) - 1), *rest


def _cut(cell: Cell, width: int) -> Cell:
    text = cell.text if text_width(cell.text) <= width else _SHORT_WORDS.get(cell.text, cell.text)
    return cell._replace(text=shortened(text, width))


def bar_cells(bar: Bar, width: int) -> list[Cell]:
    """Draw a bar of ``width`` columns, exact to an eighth of a column."""
    eighths = round(bar.fill * width * 8)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[rest] if rest else "")
    return [Cell(filled, bar.tone, bar.level), Cell("─" * (width - len(filled)), Tone.DIM)]


def text_width(text: str) -> int:
    """Terminal columns of ``text``. East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Cut ``text`` to ``width`` columns in the middle, because names often differ only at their ends."""
    if text_width(text) <= width:
        return text
    if width < 1:
        return ""
    room = width - 1
    head = _fitting(text, (room + 1) // 2)
    tail = _fitting(reversed(text), room - text_width(head))
    return head + "…" + tail[::-1]


def _fitting(text: Iterable[str], width: int) -> str:
    """The beginning of ``text`` that fits in ``width`` columns. Measures each character once."""
    kept: list[str] = []
    for char in text:
        width -= _char_width(char)
        if width < 0:
            break
        kept.append(char)
    return "".join(kept)
