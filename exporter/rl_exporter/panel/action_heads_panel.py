"""The Textual widget ACTION HEADS: one run, one column for each head."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from rl_exporter.view.findings import Finding
from rl_exporter.view.layout import Line, finding_lines, lay_out
from rl_exporter.view.rich_text import entropy_color, styled_lines
from rl_exporter.view.run_view import RunView

_entropy_color = entropy_color
"""The specification knows the colour rule under this name, beside the panel."""


class ActionHeadsPanel(Widget):
    """Shows a ``RunView`` in the width that it gets, as high as it needs."""

    DEFAULT_CSS = """
    ActionHeadsPanel { height: auto; padding: 0 1; border: round ansi_bright_black; border-title-style: bold; }
    ActionHeadsPanel.healthy { border: round ansi_green; }
    ActionHeadsPanel.warning { border: round ansi_yellow; }
    ActionHeadsPanel.critical { border: round ansi_red; }
    ActionHeadsPanel.no_data { border: round ansi_bright_black; }
    """

    BORDER_TITLE = "ACTION HEADS"

    def __init__(self) -> None:
        super().__init__()
        self._view: RunView | None = None
        self._notices: tuple[Finding, ...] = ()
        self._with_legend = True
        self._laid_out: tuple[int, list[Line]] | None = None

    def show(self, view: RunView | None, notices: Sequence[Finding] = (), *, with_legend: bool = True) -> None:
        """Show ``view``, None before the first, below ``notices``."""
        # Compared first: a layout costs far more, and most refreshes bring nothing new.
        shown = (view, tuple(notices), with_legend)
        if shown == (self._view, self._notices, self._with_legend):
            return
        self._view, self._notices, self._with_legend = shown
        self._laid_out = None
        self.set_classes(view.status.name.lower() if view else "no_data")
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of lines at ``width``. Textual asks for it to lay out the screen."""
        del container, viewport
        return len(self._lines(width))

    def render(self) -> Text:
        """The panel at its current width."""
        return styled_lines(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[Line]:
        # Kept, because Textual asks for the height and then for the text of the same picture.
        if self._laid_out is None or self._laid_out[0] != width:
            lines = finding_lines(self._notices, width)
            if lines and self._view:
                lines.append(())
            if self._view:
                lines += lay_out(self._view, width, with_legend=self._with_legend)
            self._laid_out = (width, lines)
        return self._laid_out[1]
