"""Cells as rich text, for the terminal panel and for the table that the trainer prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.style import Style
from rich.text import Text

from rl_exporter.health import DEFAULT_THRESHOLDS, Level, Thresholds, level
from rl_exporter.view.cells import Cell, Tone
from rl_exporter.view.layout import Line

# Names of the 16 ANSI colours: the terminal or the theme decides what they look like.
_LEVEL_COLORS = {Level.HEALTHY: "green", Level.WARNING: "yellow", Level.CRITICAL: "red"}
_TONE_STYLES = {
    Tone.PLAIN: "",
    Tone.DIM: "dim",
    Tone.STRONG: "bold",
    Tone.HEALTHY: "green",
    Tone.WARNING: "yellow",
    Tone.CRITICAL: "bold red",
}


def entropy_color(ratio: float | None, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> str:
    """Colour of an entropy ratio: green, at or below a threshold yellow or red; none without a level."""
    return level_color(level(ratio, thresholds))


def level_color(verdict: Level | None) -> str:
    """Colour of a level: green, yellow or red; none without a level."""
    return _LEVEL_COLORS[verdict] if verdict else ""


def cell_style(cell: Cell) -> Style:
    """Style of a cell: the colour of its level if it has one, else that of its tone."""
    color = level_color(cell.level)
    style = Style.parse(_TONE_STYLES[cell.tone])
    return style + Style(color=color, bold=style.bold or color == "red") if color else style


def styled_cells(cells: Iterable[Cell]) -> Text:
    """Cells side by side as one text. Never parsed as markup, so a name may hold brackets."""
    return Text.assemble(*((cell.text, cell_style(cell)) for cell in cells))


def styled_lines(lines: Sequence[Line]) -> Text:
    """Lines of cells as one text."""
    return Text("\n", no_wrap=True, overflow="crop", end="").join(map(styled_cells, lines))
