"""The panel against a real trainer: the same numbers as its log, and `rl-train --tui` on a real terminal."""

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from rl_exporter.cli.main import parser
from rl_exporter.panel.action_heads_panel import ActionHeadsPanel
from rl_exporter.panel.app import WatchApp
from rl_exporter.panel.watch import _selection
from rl_training.action_space import HEAD_NAMES
from stack.processes import free_address
from tests.support.small_runs import SMALL_UPDATES, lines_so_far
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.stack

TRAIN = (sys.executable, "-m", "rl_training", "--env", "heads", "--env-arg", "consult=table", *SMALL_UPDATES)


@pytest.fixture
def address():
    return free_address()


@pytest.fixture
def trainer(address, tmp_path):
    """A run that logs, one update every half second."""
    log = tmp_path / "log"
    options = ("--listen", address, "--run-id", "watched", "--pace", "0.5", "--linger", "30", "--quiet")
    process = subprocess.Popen([*TRAIN, *options, "--log-json", str(log), "--updates", "100000"])
    yield process, log
    process.kill()
    process.wait()


def logged(log, update):
    """The log line of an update, which the panel may show just before its line is there."""

    def found():
        return next((line for line in lines_so_far(log) if line["update"] == update), None)

    return until(found)


ROWS = {
    "Entr": "rl_policy_head_entropy_nats",
    "Choice": "rl_policy_head_choice_entropy_ratio",
    "Grad": "rl_policy_head_gradient_norm",
    "Ratio": "rl_policy_head_importance_ratio_max",
}


def compare(text, log):
    """Every number of the panel's rows with the log line of the update that it names."""
    lines = text.splitlines()
    update = int(re.search(r"update (\d+)", text)[1])
    first = next(i for i, line in enumerate(lines) if line.startswith("Entr"))
    starts = [re.search(rf"\b{name}\b", lines[first - 1]).start() for name in HEAD_NAMES]
    line_of_log, compared = logged(log, update), 0
    for label, name in ROWS.items():
        (line,) = [line for line in lines if line.startswith(label)]
        values = line_of_log[name]
        for head, a, b in zip(HEAD_NAMES, starts, [*starts[1:], None], strict=True):
            shown = re.search(r"(?:[\d.]+x)?(\d+\.\d{3})", line[a:b])
            assert (shown is None) == (head not in values), (label, head)
            if shown:
                assert float(shown[1]) == pytest.approx(values[head], abs=0.00051), (label, head)
                compared += 1
    assert compared >= 24
    return update


def once(address, log):
    """``--once``, as soon as there is an update."""
    command = [sys.executable, "-c", "import sys; from rl_exporter.cli.main import main; sys.exit(main())"]
    wide = {**os.environ, "COLUMNS": "200"}
    deadline = time.monotonic() + 60
    status = 3
    while status == 3 and time.monotonic() < deadline:
        done = subprocess.run(
            [*command, "watch", "--once", address], capture_output=True, text=True, env=wide, check=False
        )
        status = done.returncode
    assert status in {0, 1, 2}, done.stderr
    compare(done.stdout, log)


def test_the_panel_shows_what_the_trainer_logged_until_its_end(trainer, address):
    process, log = trainer
    options = parser().parse_args(["watch", address, "--interval", "0.2"])
    app = WatchApp(_selection(options).discover()[0])

    async def watch():
        async with app.run_test(size=(200, 40)) as pilot:

            def text():
                return app.screen.query_one(ActionHeadsPanel).render().plain

            await until_async(lambda: "Entr" in text(), pilot, seconds=60)
            seen = {compare(text(), log)}
            await until_async(lambda: f"update {max(seen)} " not in text(), pilot)
            seen.add(compare(text(), log))
            assert len(seen) == 2
            process.send_signal(signal.SIGTERM)
            await until_async(lambda: "interrupted" in text() or "stale" in text(), pilot, seconds=40)

    once(address, log)
    asyncio.run(watch())
    assert process.wait(timeout=60) == 0


def test_tui_on_a_terminal_shows_the_heads_and_q_ends_the_run_cleanly(address):
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    options = ("--tui", "--listen", address, "--run-id", "shown", "--linger", "0", "--updates", "100000")
    process = subprocess.Popen(
        [*TRAIN, *options],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(terminal)
    output = b""
    deadline = time.monotonic() + 120
    asked = False
    while time.monotonic() < deadline:
        if select.select([main_end], [], [], 0.2)[0]:
            try:
                output += os.read(main_end, 65536)
            except OSError:
                break
        if not asked and b"alpha_curve" in output and b"Entr" in output:
            os.write(main_end, b"q")
            asked = True
    os.close(main_end)
    assert process.wait(timeout=60) == 0
    text = output.decode(errors="replace")
    assert "ACTION HEADS" in text
    assert "run shown interrupted" in text
    assert text.index("ACTION HEADS") < text.index("the run ends after this update")
    assert "\x1b[?1049l" in text, "the terminal is given back as it was"
    assert "Traceback" not in text
