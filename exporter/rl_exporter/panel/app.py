"""The terminal panel: looks at runs in the background and shows them."""

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
from rl_exporter.view.verdict import Finding

REFRESH_SECONDS = 0.1
"""Within this time a look that brought something is shown, however many there are."""

_TICKS_PER_AGE = 5
"""Ages are shown anew every so many times."""

RESCAN_SECONDS = 5.0
LOOKS_AT_ONCE = 16


def _theme(*colors: str) -> TerminalTheme:
    """A theme from background, foreground, and the 16 colours, as RRGGBB."""
    background, foreground, *ansi = (tuple(bytes.fromhex(color)) for color in colors)
    return TerminalTheme(background, foreground, ansi[:8], ansi[8:])  # type: ignore[arg-type]


COLORS = _theme(
    *("12161d", "dee3eb"),
    *("12161d", "f06068", "4cc38a", "e3b341", "61a0f5", "be8cf0", "56bec8", "c8ced8"),
    *("6e7888", "ff787e", "6ed7a0", "f5cd69", "82b9ff", "d2aaff", "78d7e1", "ffffff"),
)
"""What the 16 ANSI colours look like where the terminal has more."""

Discover = Callable[[], tuple[Sequence[ObservedRun], Sequence[str]]]
"""All runs that are listed now, old ones as they were, and what is wrong with the list. May block."""


def _few_colors() -> bool:
    """Whether the terminal has 16 colours or the user wants none: the terminal's own colours serve then."""
    return "NO_COLOR" in os.environ or Console(force_terminal=True).color_system in {None, "standard"}


class WatchApp(App[None]):
    """One run, or a list of them. ``discover`` makes it a list that follows a directory."""

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
        Binding("r", "look", "Refresh"),
        Binding("s", "save", "Save SVG"),
        Binding("l", "legend", "Legend"),
    ]

    def __init__(self, runs: Sequence[ObservedRun] = (), discover: Discover | None = None) -> None:
        few = _few_colors()
        super().__init__(ansi_color=True if few else None)
        if few:
            self.theme = "ansi-dark"
        self.ansi_theme_dark = COLORS
        self.runs: Sequence[ObservedRun] = list(runs)
        self.with_legend = True
        self.paused = False
        self._discover = discover
        self._leaving = False
        self._news = False
        self._ticks = 0
        self._problems: Sequence[str] = ()
        self._look_now = asyncio.Event()
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._followed: dict[str, asyncio.Task[None]] = {}

    def on_mount(self) -> None:
        """Show what there is, and begin to look."""
        single = len(self.runs) == 1 and self._discover is None
        self.push_screen(RunScreen(self.runs[0]) if single else RunListScreen())
        self._follow_all()
        if self._leaving:
            self.exit()
        self.set_interval(REFRESH_SECONDS, self._tick)
        if self._discover is not None:
            self.run_worker(self._rescan(self._discover), exit_on_error=False)

    def on_unmount(self) -> None:
        """Look no more."""
        self.runs = ()
        self._follow_all()

    def notices(self) -> list[Finding]:
        """What concerns the whole program."""
        paused = [Finding("paused", Tone.WARNING, "", "p goes on")] if self.paused else []
        return [*paused, *(Finding("targets", Tone.WARNING, "", problem) for problem in self._problems)]

    def _tick(self) -> None:
        self._ticks += 1
        if self._news or self._ticks % _TICKS_PER_AGE == 0:
            self.refresh_screen()

    def refresh_screen(self) -> None:
        """Show what is known now."""
        self._news = False
        if isinstance(self.screen, RunScreen | RunListScreen) and self.screen.ready:
            self.screen.show()

    def _follow_all(self) -> None:
        """A task for each run; those that are listed no more end."""
        names = {run.source.name for run in self.runs}
        for name in self._followed.keys() - names:
            self._followed.pop(name).cancel()
        for run in self.runs:
            if run.source.name not in self._followed:
                self._followed[run.source.name] = asyncio.create_task(self._follow(run))

    async def _follow(self, run: ObservedRun) -> None:
        while True:
            async with self._looks:
                delay = await run.look()
            self._news = True
            await self._wait(delay)

    async def _wait(self, delay: float) -> None:
        """Until the time has come, or the user wants to look now; a pause lasts until it ends."""
        try:
            await asyncio.wait_for(self._look_now.wait(), None if self.paused else delay)
        except TimeoutError:
            if self.paused:
                await self._look_now.wait()

    async def _rescan(self, discover: Discover) -> None:
        while True:
            runs, self._problems = await in_thread(discover)
            self.runs = runs
            self._follow_all()
            self.refresh_screen()
            await asyncio.sleep(RESCAN_SECONDS)

    def leave(self) -> None:
        """End, from any thread; also before the screen is there."""
        self._leaving = True
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has just ended by itself
                loop.call_soon_threadsafe(self.exit)

    def action_pause(self) -> None:
        """Look no more, or go on."""
        self.paused = not self.paused
        if not self.paused:
            self.action_look()
        self.refresh_screen()

    def action_look(self) -> None:
        """Look now, everywhere."""
        self._look_now.set()
        self._look_now.clear()

    def action_legend(self) -> None:
        """Show or hide the legend."""
        self.with_legend = not self.with_legend
        self.refresh_screen()

    def action_help(self) -> None:
        """Open the help, once."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_leave(self) -> None:
        """From a run to the list, where there is one."""
        if len(self.screen_stack) > 2:
            self.pop_screen()
            self.refresh_screen()

    def picture(self) -> str:
        """The screen as SVG that loads nothing from elsewhere: any monospaced font will do."""
        return re.sub(r"@font-face \{.*?\}", "", self.export_screenshot(), flags=re.DOTALL)

    def action_save(self) -> None:
        """Save the screen as SVG into the working directory."""
        path = _free_path(self._picture_name())
        try:
            path.write_text(self.picture(), encoding="utf-8")
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
    """A file that is not there yet, so that no picture is overwritten."""
    paths = (Path(f"{stem}{suffix}.svg") for suffix in ("", *(f"-{number}" for number in range(2, 1000))))
    return next((path for path in paths if not path.exists()), Path(f"{stem}.svg"))
