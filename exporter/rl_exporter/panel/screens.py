"""The screens of the terminal panel: one run, the list of runs, and help."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Static

from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW
from rl_exporter.panel.action_heads_panel import ActionHeadsPanel
from rl_exporter.panel.observed_run import ObservedRun, worst_first
from rl_exporter.panel.run_list import COLUMNS, run_row
from rl_exporter.view.cells import Cell, Tone
from rl_exporter.view.findings import Finding
from rl_exporter.view.layout import Line, finding_lines, legend
from rl_exporter.view.rich_text import styled_cells, styled_lines

KEYS = (
    ("q, Ctrl-C", "quit"),
    ("p", "pause: look no more, keep the picture; again goes on"),
    ("r", "look now instead of waiting"),
    ("s", "save the screen as an SVG picture in this directory"),
    ("l", "show or hide the legend"),
    ("Enter, Esc", "in a list of runs: open a run, and back"),
    ("arrows, PgUp, PgDn", "scroll"),
)

ROWS = (
    ("Entr", "entropy in nats over all steps, behind the factor of its coefficient where that is above 1; "
             "colour, letter and bar: its share of the maximum, or of the reference that the run declared"),
    ("Choice", "entropy relative to what the mask allowed, over the steps at which the head decided; the "
               "share of such steps. The verdict starts from it"),
    ("Info", "state information in nats: how much the state explains of what the head decides; 0: it does the "
             "same whatever it sees. Low entropy is a collapse only where this is low, too, or not known; "
             "elsewhere the head has settled"),
    ("Action", "the action that the head takes most, and its share of the head's decisions"),
    ("Grad", "gradient norm before clipping; an arrow against the mean of the last updates; a logarithmic bar: "
             f"empty at {VANISHING_BELOW:g} (vanishing), full at {EXPLODING_ABOVE:g} (exploding)"),
    ("Ratio", "largest probability ratio between the updated policy and the one that acted"),
    ("State", "one word from entropy and gradients, see the symbols"),
    ("Limits", "thresholds of the head, warning/critical, where heads have different ones"),
    ("NaN/Inf", "values that were not finite since the start, when there were any"),
    ("Control", "coefficient that an entropy controller applied, and the entropy ratio that it aims at"),
    ("Age", "updates since the head was last measured, when it was not in the last one"),
    ("History", "effective ratio of the updates that were seen, 0 to 1"),
    ("below", "what the environments report, mean over the last 100 episodes; of numbers with labels the "
              "largest"),
)  # fmt: skip


class PanelApp(Protocol):
    """What the screens use of the app. A protocol, because the app imports the screens."""

    runs: Sequence[ObservedRun]
    with_legend: bool

    def notices(self) -> list[Finding]:
        """Findings about the program rather than a run, such as a pause."""


class RunScreen(Screen[None]):
    """The panel of one run."""

    CSS = """
    RunScreen VerticalScroll { scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.leave", "Back", show=False)]

    def __init__(self, run: ObservedRun) -> None:
        super().__init__()
        self.run = run
        self.ready = False
        self._panel = ActionHeadsPanel()

    def compose(self) -> ComposeResult:
        """Place the panel above the keys."""
        with VerticalScroll():
            yield self._panel
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Focus the scroll area, so that the arrow keys work at once."""
        self.query_one(VerticalScroll).focus()
        self.ready = True
        self.show()

    def show(self) -> None:
        """Show the run's last snapshot."""
        app = cast(PanelApp, self.app)
        # A run that was listed again is observed anew.
        listed = [run for run in app.runs if run.source.name == self.run.source.name]
        self.run = listed[0] if listed else self.run
        notice = self.run.notice(listed=bool(listed))
        notices = [*app.notices(), *([notice] if notice else [])]
        self._panel.border_subtitle = Text(self.run.source.name)
        self._panel.show(self.run.view(), notices, with_legend=app.with_legend)


class RunTable(DataTable[Text]):
    """Rows of runs. ``touched``: the user has moved the cursor. Until then it stays on the worst run."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]
    touched = False

    def on_key(self) -> None:
        """Leave the cursor to the user from now on."""
        self.touched = True

    def on_click(self) -> None:
        """Leave the cursor to the user from now on."""
        self.touched = True


class RunListScreen(Screen[None]):
    """All runs, worst first; Enter opens one."""

    CSS = """
    RunListScreen RunTable { height: 1fr; scrollbar-size-vertical: 1; background: ansi_default; }
    RunListScreen RunTable > .datatable--header { background: ansi_default; text-style: bold underline; }
    RunListScreen #notices { height: auto; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready = False
        self._table = RunTable(cursor_type="row")
        self._notices = Static(id="notices")

    def compose(self) -> ComposeResult:
        """Place notices, table and keys."""
        yield self._notices
        yield self._table
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Add the columns. Their widths follow from the rows."""
        for column in COLUMNS:
            self._table.add_column(column, key=column)
        self._table.focus()
        self.ready = True
        self.show()

    def show(self) -> None:
        """Sort the runs again and update changed cells. The cursor stays on its run."""
        app = cast(PanelApp, self.app)
        table = self._table
        selected = self._selected()
        runs = worst_first(app.runs)
        names = [run.source.name for run in runs]
        if names != [key.value for key in table.rows]:
            table.clear()
            for run in runs:
                table.add_row(*self._row(run), key=run.source.name)
            if table.touched and selected in names:
                table.move_cursor(row=names.index(selected), scroll=False)
        # Only what changed: replacing every row of a fleet would flicker and lose the scroll position.
        for run in runs:
            for column, text in zip(COLUMNS, self._row(run), strict=True):
                if table.get_cell(run.source.name, column) != text:
                    table.update_cell(run.source.name, column, text, update_width=True)
        notices = app.notices()
        if not runs:
            notices.append(
                Finding("no runs", Tone.WARNING, "", "no target is listed yet; looking again every few seconds")
            )
        self._notices.display = bool(notices)
        self._notices.update(styled_lines(finding_lines(notices, max(self.size.width - 2, 20))))

    def _row(self, run: ObservedRun) -> list[Text]:
        return [styled_cells(parts) for parts in run_row(run)]

    def _selected(self) -> str | None:
        table = self._table
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the selected run."""
        app = cast(PanelApp, self.app)
        run = next((run for run in app.runs if run.source.name == event.row_key.value), None)
        if run is not None:
            self.app.push_screen(RunScreen(run))


class HelpScreen(ModalScreen[None]):
    """Keys, rows, symbols and colours."""

    CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll {
        width: 80; max-width: 100%; height: auto; max-height: 100%;
        border: round ansi_cyan; padding: 0 1; border-title-style: bold; scrollbar-size-vertical: 1;
    }
    HelpScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Place the help in one scrolling box."""
        with VerticalScroll() as box:
            box.border_title = "Help"
            yield Static(styled_lines(help_lines(74)))

    def on_mount(self) -> None:
        """Focus the box, so that the arrow keys scroll it."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Wrap the text again for the new width."""
        self.query_one(Static).update(styled_lines(help_lines(min(self.size.width, 80) - 5)))


def help_lines(width: int) -> list[Line]:
    """The help in lines of at most ``width`` columns, but at least 20."""
    width = max(width, 20)
    lines = [*_section("Keys", KEYS, width), (), *_section("Rows", ROWS, width), ()]
    return [*lines, (Cell("Symbols, letters, colours", Tone.STRONG),), *legend(width)]


def _section(title: str, entries: Sequence[tuple[str, str]], width: int) -> Iterator[Line]:
    yield (Cell(title, Tone.STRONG),)
    indent = max(len(name) for name, _ in entries) + 2
    for name, text in entries:
        first, *more = textwrap.wrap(text, max(width - indent, 10))
        yield (Cell(name.ljust(indent), Tone.WARNING), Cell(first))
        for line in more:
            yield (Cell(" " * indent + line),)
