"""A discovery directory that others can write to: whatever they put there costs a reader one line."""

import fcntl
import json
import os
import signal

import pytest

from rl_exporter.discovery import directory as directory_module
from rl_exporter.discovery import entry as entry_module
from rl_exporter.discovery.directory import read_directory
from rl_exporter.discovery.entry import read_entries
from tests.hostile.bounded_commands import command, loop, sparse, writing
from tests.support.bad_servers import BODY, answering, http

pytestmark = pytest.mark.slow

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{former}'] * 9)}]\n"
    for former, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{former}'] * 9)}]}}\n"
    for former, name in zip("abcdefghij", "bcdefghijk", strict=True)
)

THINGS = {
    "pipe.json": (os.mkfifo, "it is no regular file"),
    "pipe.yml": (os.mkfifo, "it is no regular file"),
    "device.json": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "device.yml": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "folder.json": (lambda path: path.mkdir(), "it is no regular file"),
    "loop.json": (loop, "Too many levels of symbolic links"),
    "sparse.json": (sparse, "it is larger than 1024 KiB"),
    "sparse.yml": (sparse, "it is larger than 1024 KiB"),
    "deep.json": (writing("[" * 500_000), "nested more than 32 levels"),
    "nested.json": (writing("[" * 100 + "]" * 100), "nested more than 32 levels"),
    "deep.yml": (writing("[" * 500_000), "nested more than 32 levels"),
    "blocks.yml": (writing("\n".join(" " * n + "-" for n in range(1000))), "nested more than 32 levels"),
    "keys.yml": (writing("? " * 100_000), "nested more than 32 levels"),
    "bomb.yml": (writing(BOMB), "more than 100000 values"),
    "merges.yml": (writing(MERGES), "more than 100000 values"),
    "chain.yml": (
        writing("- &a0 [x]\n" + "".join(f"- &a{n + 1} [*a{n}]\n" for n in range(100))),
        "nested more than 32 levels",
    ),
    "itself.yml": (writing("&a [*a]"), "stands for itself"),
    "sixties.yml": (writing("- " + ":".join(["59"] * 100_000)), "longer than 4096 characters"),
    "digits.json": (writing("[" + "9" * 100_000 + "]"), "Exceeds the limit"),
    "tag.yml": (writing("!!bool maybe"), "does not fit its tag"),
    "object.yml": (writing("!!python/object/apply:os.system ['true']"), "could not determine a constructor"),
    "address.json": (writing(json.dumps([{"targets": ["x" * 10_000]}])), "is not HOST:PORT"),
    "label.json": (writing('[{"targets": ["a:1"], "labels": {"x": [1]}}]'), "of a label is no text"),
    "escape.json": (writing("[\x1b]2;x\x07"), "Expecting value"),
    "flat.yml": (writing("- x\n" * 200_000), "more than 100000 values"),
}
"""What others put there, and what the reader says."""


@pytest.fixture
def run():
    """The address of a run that answers."""
    with answering(lambda connection, stop: connection.sendall(http(BODY))) as address:
        yield address


def test_watch_names_each_thing_in_one_line_and_shows_the_runs(tmp_path, run):
    for name, (place, _) in THINGS.items():
        place(tmp_path / name)
    (tmp_path / "good.json").write_text(json.dumps([{"targets": [run]}]))
    done = command("watch", "--once", "--json", "--targets", tmp_path)
    assert json.loads(done.stdout)["run_id"] == "run"
    said = done.stderr.splitlines()
    assert len(said) == directory_module._MAX_PROBLEMS + 1
    assert said[-1] == f"rl-exporter watch: and {len(THINGS) - len(said) + 1} more files"
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", THINGS)
def test_each_thing_is_named_with_the_reason(name, tmp_path):
    place, reason = THINGS[name]
    place(tmp_path / name)
    targets, (problem,) = read_directory(tmp_path)
    assert targets == []
    assert str(tmp_path / name) in problem
    assert reason in problem
    assert problem.isprintable()
    assert len(problem) < len(str(tmp_path)) + 300


@pytest.fixture
def _no_signal():
    """The kernel tells the holder of a lease that somebody wants the file; the default action ends it."""
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, former)


@pytest.mark.usefixtures("_no_signal")
def test_a_file_under_a_lease_keeps_nobody_waiting(tmp_path):
    """Opening it would wait for 45 s, until the kernel breaks the lease."""
    path = tmp_path / "leased.json"
    path.write_text("[]")
    with path.open("r+") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        _, (problem,) = read_directory(tmp_path)
        assert "Resource temporarily unavailable" in problem
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def test_of_more_files_than_any_fleet_has_the_first_are_read_and_the_rest_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(directory_module, "MAX_FILES", 5)
    monkeypatch.setattr(entry_module, "MAX_ENTRIES", 5)
    for number in range(7):
        (tmp_path / f"{number}.run.json").write_text(json.dumps([{"targets": [f"a:{number + 1}"]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 5
    assert "is shown in part" in problem
    assert len(list(read_entries(tmp_path))) == 5
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "many.json").write_text(json.dumps([{"targets": [f"a:{n}" for n in range(1, 9)]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 5
    assert "is shown in part" in problem


def test_reading_a_directory_ends_although_every_file_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(directory_module, "_MAX_SECONDS", 0.0)
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(json.dumps([{"targets": [f"a:{number + 1}"]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 1
    assert "is shown in part" in problem
