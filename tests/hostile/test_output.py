"""A display, a log or a terminal that nobody reads any more falls silent, and training goes on."""

import contextlib
import io
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rl_training.run.streams import HarmlessStream, harmless_streams
from tests.support.small_runs import SMALL_UPDATES, lines_so_far, logged_updates
from tests.support.waiting import until


def filled(descriptor):
    """Fill a pipe or terminal that nobody reads."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"\0" * 64)
    os.set_blocking(descriptor, True)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, os.fdopen(writer, "w")
    with contextlib.suppress(OSError):
        os.close(reader)


def test_a_stream_that_is_read_gets_everything_in_order(pipe):
    reader, file = pipe
    stream = HarmlessStream(file, "out")
    print("one", file=stream)
    stream.write("zwölf █" * 1000)
    with file:
        pass
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    assert data.decode() == "one\n" + "zwölf █" * 1000


def test_a_pipe_whose_reader_left_falls_silent_and_says_so_once(pipe, caplog):
    reader, file = pipe
    os.close(reader)
    stream = HarmlessStream(file, "standard output")
    for _ in range(5):
        assert stream.write("text") == 4
    stream.flush()
    (said,) = caplog.messages
    assert said.startswith("standard output: Broken pipe; ")
    file.close()


def test_a_full_disk_loses_lines_and_is_tried_again(caplog):
    with Path("/dev/full").open("w") as full:
        stream = HarmlessStream(full, "standard output")
        for _ in range(3):
            stream.write("lost")
        (said,) = caplog.messages
        assert "No space left on device" in said
        reader, writer = os.pipe()
        os.dup2(writer, full.fileno())  # room again
        os.close(writer)
        stream.write("found")
        assert os.read(reader, 99) == b"found"
        os.close(reader)


def test_a_reader_that_has_stopped_costs_one_wait_in_all(pipe, monkeypatch):
    reader, file = pipe
    filled(file.fileno())
    waits = []
    poll = select.poll

    class Poll:
        def __init__(self):
            self.real = poll()
            self.register = self.real.register

        def poll(self, milliseconds):
            waits.append(milliseconds)
            return self.real.poll(milliseconds)

    monkeypatch.setattr(select, "poll", Poll)
    stream = HarmlessStream(file, "out")
    for _ in range(100):
        stream.write("x" * 100_000)
    assert sum(waits) == waits[0] == 200
    while select.select([reader], [], [], 0)[0]:
        os.read(reader, 65536)
    stream.write("again")
    assert os.read(reader, 99) == b"again"
    file.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_sign_that_the_encoding_lacks_is_replaced(encoding, tmp_path):
    with (tmp_path / "out").open("w", encoding=encoding) as file:
        HarmlessStream(file, "out").write("▲ \ud800")
    assert len((tmp_path / "out").read_bytes()) >= 3


def test_what_is_no_file_is_written_too():
    plain = io.StringIO()
    stream = HarmlessStream(plain, "out")
    stream.write("text")
    assert plain.getvalue() == "text"
    plain.close()
    stream.write("text")
    assert not stream.isatty()
    nothing = HarmlessStream(None, "out")
    assert nothing.write("text") == 4
    assert (nothing.isatty(), nothing.encoding, nothing.writable()) == (False, "utf-8", True)


def test_a_file_that_somebody_closed_falls_silent(tmp_path):
    with (tmp_path / "out").open("w") as file:
        stream = HarmlessStream(file, "out")
    stream.write("text")
    assert not stream.isatty()


def test_a_print_of_an_environment_is_harmless_too(pipe):
    reader, file = pipe
    os.close(reader)
    former = sys.stdout
    sys.stdout = file
    try:
        with harmless_streams():
            print("from an environment")
        assert sys.stdout is file
    finally:
        sys.stdout = former
    file.close()


@pytest.mark.slow
def test_a_callback_that_tells_nobody_where_it_serves_ends_no_training(pipe):
    from tests.support.sb3_reach import local, small_ppo

    reader, file = pipe
    os.close(reader)
    model, callback = small_ppo(), local(verbose=1)
    with contextlib.redirect_stdout(file):
        model.learn(16, callback=callback)
    assert callback.recorder.snapshot().run_state == "completed"
    with contextlib.suppress(OSError):
        file.close()


TRAIN = [sys.executable, "-m", "rl_training", "--env", "heads", "--num-envs", "4", "--rollout-steps", "8", *SMALL_UPDATES,
         "--updates", "12", "--pace", "0.05", "--listen", "127.0.0.1:0", "--linger", "0"]  # fmt: skip


def shell(command, log, **options):
    words = " ".join([*TRAIN, "--log-json", str(log)])
    return subprocess.run(["bash", "-c", command.replace("TRAIN", words)], timeout=120, check=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "silent"),
    [
        ("set -o pipefail; TRAIN | head -1", False),
        ("TRAIN > /dev/full", False),
        ("TRAIN >&- 2>&- <&-", True),
        ("TRAIN 2>&1 >/dev/full | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", True),
        ("mkfifo pipe; sleep 60 < pipe & TRAIN > pipe 2>&1; status=$?; kill %1; exit $status", True),
    ],
    ids=["head", "full", "closed", "both gone", "a reader that never reads"],
)
def test_training_goes_on_whatever_becomes_of_its_output(command, silent, tmp_path):
    log = tmp_path / "log"
    done = shell(command, log, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert logged_updates(log.read_bytes()) == list(range(1, 13))
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert said.count("WARNING: standard output: ") == (0 if silent else 1)


@pytest.mark.slow
def test_a_log_whose_reader_leaves_ends_no_run(tmp_path):
    done = shell(
        "mkfifo log; head -2 log > two & TRAIN; status=$?; wait; exit $status", tmp_path / "log", cwd=tmp_path
    )
    assert done.returncode == 0
    assert logged_updates((tmp_path / "two").read_bytes()) == [1, 2]


@contextlib.contextmanager
def terminal(*arguments):
    """A run in the foreground of a terminal of its own: its process, and the side of the person."""
    pid, person = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*TRAIN, *arguments])
    status = []

    def wait():
        status.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield pid, person, lambda: until(lambda: status, 100) and status[0]
    finally:
        if not status:
            os.kill(pid, signal.SIGKILL)
        waiting.join()


def read_for_a_while(person, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        if select.select([person], [], [], 0.05)[0]:
            os.read(person, 65536)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--hold",), ("--tui",), ("--quiet",)], ids=str)
def test_training_goes_on_when_its_terminal_is_closed(options, tmp_path):
    log = tmp_path / "log"
    with terminal(*options, "--log-json", str(log)) as (_, person, status):
        read_for_a_while(person, lambda: len(lines_so_far(log)) > 1)
        os.close(person)
        assert status() == 0
    assert logged_updates(log.read_bytes()) == list(range(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--tui",)], ids=str)
def test_training_goes_on_while_its_terminal_stands_still(options, tmp_path):
    """As after Ctrl-S, or in front of somebody who selects text."""
    log = tmp_path / "log"
    with terminal(*options, "--log-json", str(log)) as (_, person, status):
        read_for_a_while(person, lambda: len(lines_so_far(log)) > 1)
        assert status() == 0
        os.close(person)
    assert logged_updates(log.read_bytes()) == list(range(1, 13))


@pytest.mark.slow
def test_a_run_of_python_tools_ends_its_output_quietly(tmp_path):
    tool = f"{sys.executable} -c 'import sys; from rl_exporter.cli.main import main; sys.exit(main())'"
    for command, status, said in (
        (f"set -o pipefail; {tool} metrics | true", 0, ""),
        (
            f"{tool} metrics > /dev/full",
            2,
            "rl-exporter: error: standard output: No space left on device; give one that can be written\n",
        ),
        (f"{tool} metrics >&-", 0, ""),
        (f"set -o pipefail; {tool} bundle --out bundle | true", 0, ""),
        (
            f"{tool} targets list . > /dev/full",
            2,
            "rl-exporter: error: standard output: No space left on device; give one that can be written\n",
        ),
        (
            f"{tool} targets list ./none",
            2,
            "rl-exporter: error: 'none': No such file or directory; give the directory that runs register in\n",
        ),
    ):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (status, said), command
