"""A directory that runs cannot register in is one line with the remedy, and nothing is left there."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rl_exporter.discovery.registration import RegistrationError, claim
from tests.support.entries import files

CLAIM = """
import os, resource, sys
from pathlib import Path
import rl_exporter.client.fetch
from rl_exporter.discovery.registration import RegistrationError, claim
if "limited" in sys.argv: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
if "nobody" in sys.argv: os.setresuid(65534, 65534, 65534)
try:
    claim(Path(sys.argv[1]), ["a"])
except RegistrationError as error:
    print(error)
"""


def refusal(directory, *arguments):
    command = [sys.executable, "-c", CLAIM, directory, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("\n") == 1
    return done.stdout


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory; make it first, or give another"),
        (lambda path: path.write_text(""), "Not a directory; give a directory"),
    ],
)
def test_a_directory_that_is_none_is_one_line_with_the_remedy(make, reason, tmp_path):
    make(tmp_path / "x")
    assert refusal(tmp_path / "x") == f"cannot register in '{tmp_path / 'x'}': {reason}\n"


def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path):
    assert "File too large; make room there, or give another" in refusal(tmp_path, "limited")
    assert files(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_directory_that_may_not_be_written_is_one_line_and_leaves_nothing():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        assert "Permission denied; give a directory that can be written" in refusal(folder, "nobody")
        assert files(Path(folder)) == []


@pytest.fixture
def tiny(tmp_path):
    """A file system of one page."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_full_file_system_is_one_line_and_leaves_nothing(tiny):
    (tiny / "full").write_bytes(b"x" * 4096)
    assert "No space left on device; make room there, or give another" in refusal(tiny)
    assert files(tiny) == ["full"]


def test_a_read_only_file_system_is_one_line_and_leaves_nothing(tiny):
    subprocess.run(["mount", "-o", "remount,ro", tiny], check=True)
    assert "Read-only file system; give a directory that can be written" in refusal(tiny)
    assert files(tiny) == []


def test_a_disk_that_is_full_when_the_address_is_known_raises_and_leaves_nothing(tmp_path, monkeypatch):
    entry = claim(tmp_path, ["a"])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistrationError, match="No space left on device; make room there"):
        entry.publish("node1:9")
    entry.close()
    assert files(tmp_path) == []
