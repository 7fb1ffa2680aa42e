"""A file is written whole or not at all, and what already lies at its name is not opened."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rl_exporter.whole_files import WRITING, check_writable, whole_file
from tests.support.trees import tree


def test_an_error_within_a_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")
    for error in (RuntimeError, KeyboardInterrupt):
        with suppress(error), whole_file(path) as file:
            file.write(b"part")
            raise error
    check_writable(path)
    assert tree(tmp_path) == {"file": b"former"}
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "former"
    assert tree(tmp_path) == {"file": b"new"}


def test_of_two_programs_that_write_one_file_the_later_one_has_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"former")
    with ExitStack() as earlier_program, ExitStack() as later_program:
        earlier_program.enter_context(whole_file(path)).write(b"earlier")
        later = later_program.enter_context(whole_file(path))
        later.write(b"la")
        with pytest.raises(OSError, match="another program writes it, too"):
            earlier_program.close()
        assert path.read_bytes() == b"former"
        later.write(b"ter")
    assert tree(tmp_path) == {"file": b"later"}


def test_a_link_stays_and_a_mode_too(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("secret")
    path.chmod(0o600)
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_lies_where_a_write_begins_is_not_opened(tmp_path):
    """A pipe there would wait for a reader for ever, and a link could lead anywhere."""
    path = tmp_path / "file"
    partial = tmp_path / f"file{WRITING}"
    other = tmp_path / "other"
    other.write_text("somebody's")
    for lay in (
        lambda: os.mkfifo(partial),
        lambda: partial.symlink_to(other),
        lambda: partial.write_text("rest"),
    ):
        lay()
        with whole_file(path) as file:
            file.write(b"new")
        assert tree(tmp_path) == {"file": b"new", "other": b"somebody's"}


def test_a_device_is_written_and_not_replaced(tmp_path):
    nothing = Path(os.devnull)
    before = nothing.stat()
    with whole_file(nothing) as file:
        file.write(b"nothing")
    assert os.path.samestat(before, nothing.stat())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device or address"):
        check_writable(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as file:
        file.write(b"read")
    assert os.read(reader, 9) == b"read"
    os.close(reader)
