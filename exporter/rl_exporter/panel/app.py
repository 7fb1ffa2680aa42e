"""The terminal panel: polls runs in the background and shows them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from textual.app import App
from textual.binding import Binding, BindingType

from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.panel.screens import HelpScreen, RunListScreen, RunScreen
from rl_exporter.panel.sources import in_thread
from rl_exporter.view.cells import Tone
from rl_exporter.view.findings import Finding
from rl_exporter.whole_files import whole_file

REFRESH_SECONDS = 0.1
"""A new snapshot is shown within this time. All runs share one redraw: a fleet would redraw all the time."""

_TICKS_PER_AGE = 5
"""Refreshes between two redraws without a new snapshot, which only count the ages on."""

RESCAN_SECONDS = 5.0
CONCURRENT_POLLS = 16
"""More would open that many connections and threads at once for a fleet of hundreds of runs."""


def _theme(*colors: str) -> TerminalTheme:
    """Make a theme from background, foreground and the 16 ANSI colours, as RRGGBB."""
    background, foreground, *ansi = (tuple(bytes.fromhex(color)) for color in colors)
    return TerminalTheme(background, foreground, ansi[:8], ansi[8:])  # type: ignore[arg-type]  # tuples of 3


COLORS = _theme(
    *("12161d", "dee3eb"),
    *("12161d", "f06068", "4cc38a", "e3b341", "61a0f5", "be8cf0", "56bec8", "c8ced8"),
    *("6e7888", "ff787e", "6ed7a0", "f5cd69", "82b9ff", "d2aaff", "78d7e1", "ffffff"),
)
"""The 16 ANSI colours as RGB, for terminals with more colours and for the SVG picture."""

Discover = Callable[[], tuple[Sequence[ObservedRun], Sequence[str]]]
"""Returns the runs that are listed now, known ones as the same objects, and problems of the list. May block."""


def _few_colors() -> bool:
    """Whether the terminal has 16 colours or the user wants none: then use the terminal's own."""
    return "NO_COLOR" in os.environ or Console(force_terminal=True).color_system in {None, "standard"}


class WatchApp(App[None]):
    """Shows one run or a list of runs. With ``discover``, a list that follows a directory."""

    TITLE = "rl-exporter watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    Footer { background: ansi_default; }
    * {
        scrollbar-color: ansi_bright_black;
        scrollbar-color-hover: ansi_white; scrollbar-color-active: ansi_white;
        scrollbar-background: ansi_default; scrollbar-background-hover: ansi_default;
        scrollbar-background-active: ansi_default; scrollbar-corner-color: ansi_default;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("question_mark", "help", "Help"),
        Binding("p", "pause", "Pause"),
        Binding("r", "poll", "Refresh"),
        Binding("s", "save", "Save SVG"),
        Binding("l", "legend", "Legend"),
    ]

    def __init__(self, runs: Sequence[ObservedRun] = (), discover: Discover | None = None) -> None:
        few = _few_colors()
        super().__init__(ansi_color=True if few else None)
        if few:
            self.theme = "ansi-dark"
        # Textual would otherwise replace the 16 colours by a palette of its choice.
        self.ansi_theme_dark = COLORS
        self.runs: Sequence[ObservedRun] = list(runs)
        self.with_legend = True
        self.paused = False
        self._discover = discover
        self._leaving = False
        self._new_snapshot = False
        self._ticks = 0
        self._problems: Sequence[str] = ()
        self._poll_now = asyncio.Event()
        self._poll_slots = asyncio.Semaphore(CONCURRENT_POLLS)
        self._polling: dict[ObservedRun, asyncio.Task[None]] = {}

    def on_mount(self) -> None:
        """Show the first screen and start polling."""
        single = len(self.runs) == 1 and self._discover is None
        self.push_screen(RunScreen(self.runs[0]) if single else RunListScreen())
        self._start_and_stop_polling()
        if self._leaving:
            self.exit()
        self.set_interval(REFRESH_SECONDS, self._tick)
        if self._discover is not None:
            self.run_worker(self._rescan(self._discover), exit_on_error=False)

    def on_unmount(self) -> None:
        """Stop polling."""
        self.runs = ()
        self._start_and_stop_polling()

    def notices(self) -> list[Finding]:
        """Findings about the program rather than a run: a pause, problems of the target files."""
        paused = [Finding("paused", Tone.WARNING, "", "p goes on")] if self.paused else []
        return [*paused, *(Finding("targets", Tone.WARNING, "", problem) for problem in self._problems)]

    def _tick(self) -> None:
        self._ticks += 1
        if self._new_snapshot or self._ticks % _TICKS_PER_AGE == 0:
            self.refresh_screen()

    def refresh_screen(self) -> None:
        """Redraw the current screen from the last snapshots."""
        self._new_snapshot = False
        # A tick may still come while the app starts or ends, and has no screen.
        if not self.screen_stack:
            return
        if isinstance(self.screen, RunScreen | RunListScreen) and self.screen.ready:
            self.screen.show()

    def _start_and_stop_polling(self) -> None:
        """Start a task for each new run, and cancel those of runs that are no longer listed."""
        # A task for each run, so that one that does not answer delays no other.
        for run in self._polling.keys() - set(self.runs):
            self._polling.pop(run).cancel()
        for run in self.runs:
            if run not in self._polling:
                self._polling[run] = asyncio.create_task(self._poll(run))

    async def _poll(self, run: ObservedRun) -> None:
        while True:
            async with self._poll_slots:
                delay = await run.poll()
            self._new_snapshot = True
            await self._wait(delay)

    async def _wait(self, delay: float) -> None:
        """Wait for ``delay`` seconds, or until the user refreshes; during a pause, until it ends."""
        try:
            await asyncio.wait_for(self._poll_now.wait(), None if self.paused else delay)
        except TimeoutError:
            if self.paused:  # the user paused during the delay
                await self._poll_now.wait()

    async def _rescan(self, discover: Discover) -> None:
        while True:
            runs, self._problems = await in_thread(discover)
            self.runs = runs
            self._start_and_stop_polling()
            self.refresh_screen()
            await asyncio.sleep(RESCAN_SECONDS)

    def leave(self) -> None:
        """Exit. May be called from any thread, and before the screen exists: then ``on_mount`` exits."""
        self._leaving = True
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the user quit meanwhile, and the loop is closed
                loop.call_soon_threadsafe(self.exit)

    def action_pause(self) -> None:
        """Pause polling, or resume it with a poll."""
        self.paused = not self.paused
        if not self.paused:
            self.action_poll()
        self.refresh_screen()

    def action_poll(self) -> None:
        """Poll every run now."""
        # Setting wakes every task that waits; cleared at once, so that the next delay is waited for again.
        self._poll_now.set()
        self._poll_now.clear()

    def action_legend(self) -> None:
        """Show or hide the legend."""
        self.with_legend = not self.with_legend
        self.refresh_screen()

    def action_help(self) -> None:
        """Open the help, unless it is open."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_leave(self) -> None:
        """Go back from a run to the list, if there is one."""
        if len(self.screen_stack) > 2:  # Textual's blank screen, the list, the run
            self.pop_screen()
            self.refresh_screen()

    def picture(self) -> str:
        """The screen as SVG. Without the web fonts that Rich links: a saved picture must load nothing."""
        return re.sub(r"@font-face \{.*?\}", "", self.export_screenshot(), flags=re.DOTALL)

    def action_save(self) -> None:
        """Save the screen as SVG in the working directory."""
        path = _free_path(self._picture_name())
        try:
            with whole_file(path) as file:
                file.write(self.picture().encode())
        except OSError as error:
            self.notify(f"{path}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"saved {path}", markup=False)

    def _picture_name(self) -> str:
        if not isinstance(self.screen, RunScreen) or self.screen.run.snapshot is None:
            return "runs"
        snapshot = self.screen.run.snapshot
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', snapshot.run.run_id)[:60]}-update-{snapshot.tamiyo.updates}"


def _free_path(stem: str) -> Path:
    """A path where no file is yet, so that saving overwrites no picture."""
    paths = (Path(f"{stem}{suffix}.svg") for suffix in ("", *(f"-{number}" for number in range(2, 1000))))
    return next((path for path in paths if not path.exists()), Path(f"{stem}.svg"))
