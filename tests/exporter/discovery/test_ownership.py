"""Who may replace or remove an entry: its owner, and one process of those that found it dead."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import pytest

from rl_exporter.discovery import ownership
from rl_exporter.discovery.file_sd import file_version, replace_file
from rl_exporter.discovery.ownership import remove_file, remove_own, replace_own, touch_own


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.json"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(ownership, "_LOCK_SECONDS", 0.05)


@contextlib.contextmanager
def held_by_a_stranger(path):
    """Anybody who can read a file can lock it."""
    holder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(holder)


def test_only_the_file_that_was_meant_is_removed(path):
    replace_file(path, b"one")
    dead = file_version(path)
    replace_file(path, b"two")
    assert not remove_file(path, dead)
    assert path.read_bytes() == b"two"
    seen = file_version(path)
    os.utime(path, (1, 1))
    assert not remove_file(path, seen)
    assert path.exists()
    assert remove_file(path, file_version(path))
    assert list(path.parent.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        remove_file(path, dead)


def test_a_late_process_never_takes_a_newer_file_away(path, monkeypatch):
    """Not even for a moment: a third one would take the name while the file is gone."""
    replace_file(path, b"dead")
    dead = file_version(path)
    replace_file(path, b"alive")
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, lambda *_, name=name, **__: pytest.fail(f"{name} of a live file"))
    assert not remove_file(path, dead)


def test_a_file_that_was_replaced_while_a_process_waited_for_it_stays(path, monkeypatch):
    replace_file(path, b"dead")
    dead = file_version(path)

    def lock(descriptor, *, insist):
        replace_file(path, b"alive")

    monkeypatch.setattr(ownership, "_lock", lock)
    assert not remove_file(path, dead)
    assert path.read_bytes() == b"alive"


def test_while_somebody_holds_an_entry_nobody_takes_it_over_and_its_run_goes_on(path):
    replace_file(path, b"one")
    with held_by_a_stranger(path):
        with pytest.raises(BlockingIOError, match="does not let go"):
            remove_file(path, file_version(path))
        replace_own(path, b"one", b"two")
    with held_by_a_stranger(path):
        os.utime(path, (1, 1))
        touch_own(path, b"two")
        assert path.stat().st_mtime > 1
        remove_own(path, b"two")
    assert not path.exists()


def test_a_lock_on_the_directory_is_nobodys_business(path):
    replace_file(path, b"one")
    with held_by_a_stranger(path.parent):
        assert remove_file(path, file_version(path))


def test_on_a_file_system_without_locks_the_checks_stand_alone(path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    replace_file(path, b"one")
    dead = file_version(path)
    replace_file(path, b"two")
    assert not remove_file(path, dead)
    assert remove_file(path, file_version(path))


@pytest.mark.parametrize("act", [touch_own, remove_own, lambda path, own: replace_own(path, own, b"new")])
@pytest.mark.parametrize("place", [lambda path: path.write_bytes(b"theirs"), Path.mkdir, os.mkfifo,
                                   lambda path: path.symlink_to("mine")])  # fmt: skip
def test_what_is_not_the_runs_own_is_left_alone(act, place, path):
    (path.parent / "mine").write_bytes(b"mine")
    place(path)
    os.utime(path, (1, 1), follow_symlinks=False)
    with pytest.raises(FileExistsError, match="another run has registered under this run_id"):
        act(path, b"mine")
    assert path.lstat().st_mtime == 1
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("act", [touch_own, remove_own, lambda path, own: replace_own(path, own, b"new")])
def test_a_run_whose_entry_was_taken_over_while_it_waited_touches_nothing(act, path, monkeypatch):
    path.write_bytes(b"mine")

    def lock(descriptor, *, insist):
        replace_file(path, b"theirs")
        os.utime(path, (1, 1))

    monkeypatch.setattr(ownership, "_lock", lock)
    with pytest.raises(FileExistsError, match="another run has registered under this run_id"):
        act(path, b"mine")
    assert (path.read_bytes(), path.stat().st_mtime) == (b"theirs", 1)
