"""Target files are whole or not there, readable by everybody, and never found under a temporary name."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from rl_exporter.discovery.file_sd import (
    SUFFIXES,
    TargetGroup,
    create_file,
    dump_groups,
    parse_groups,
    read_groups,
    replace_file,
)

CONTENT = dump_groups(TargetGroup(["node1:4242"], {"cluster": "lab"}))


def test_what_is_written_is_what_prometheus_documents(tmp_path):
    assert json.loads(CONTENT) == [{"targets": ["node1:4242"], "labels": {"cluster": "lab"}}]
    replace_file(tmp_path / "a.json", CONTENT)
    assert read_groups(tmp_path / "a.json") == [TargetGroup(["node1:4242"], {"cluster": "lab"})]
    assert parse_groups(dump_groups().decode()) == []


@pytest.mark.parametrize("write", [create_file, replace_file])
def test_everybody_can_read_it_whatever_the_umask(write, tmp_path):
    former = os.umask(0o777)
    try:
        write(tmp_path / "a.json", CONTENT)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("write", [create_file, replace_file])
def test_no_discovery_pattern_matches_the_temporary_name(write, tmp_path, monkeypatch):
    seen = []
    real = os.fsync

    def look(descriptor):
        seen.extend(path.name for path in tmp_path.iterdir())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write(tmp_path / "a.json", CONTENT)
    (name,) = seen
    assert not any(fnmatch(name, f"*{suffix}") for suffix in SUFFIXES)


def test_an_existing_file_is_not_created_anew_but_may_be_replaced(tmp_path):
    path = tmp_path / "a.json"
    create_file(path, b"one")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert path.read_bytes() == b"one"
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_was_made_although_nfs_says_it_was_there_is_success(tmp_path, monkeypatch):
    real = Path.hardlink_to

    def answer_lost(self, target):
        real(self, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(Path, "hardlink_to", answer_lost)
    create_file(tmp_path / "a.json", CONTENT)
    assert (tmp_path / "a.json").read_bytes() == CONTENT


def test_without_hard_links_the_file_is_there_all_the_same(tmp_path, monkeypatch):
    def refused(self, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    create_file(tmp_path / "a.json", CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


WRITE = """
import resource, sys
from pathlib import Path
from rl_exporter.discovery.file_sd import replace_file
if sys.argv[2] != "-": resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    replace_file(Path(sys.argv[1]), b"x" * 4000)
except OSError as error:
    print(error.errno)
"""


def write_in_a_process(path, limit="-", **options):
    command = [sys.executable, "-c", WRITE, path, limit]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    return int(done.stdout or 0)


@pytest.mark.parametrize("limit", ["0", "100"])
def test_a_write_that_fails_half_way_leaves_the_former_file_and_nothing_else(limit, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"former")
    assert write_in_a_process(path, limit) == errno.EFBIG
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]
    assert write_in_a_process(path) == 0
    assert len(path.read_bytes()) == 4000


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.json"
    replace_file(path, CONTENT)
    program = (
        "import itertools, sys\nfrom pathlib import Path\n"
        "from rl_exporter.discovery.file_sd import TargetGroup, dump_groups, replace_file\n"
        "for n in itertools.count():\n"
        "    replace_file(Path(sys.argv[1]), dump_groups(TargetGroup([f'node{n}:1'], {'cluster': 'lab' * 1000})))\n"
        "    print(n, flush=True)\n"
    )
    for number in range(5):
        writer = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
        for _ in range(1 + 7 * number):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        (group,) = read_groups(path)
        assert group.targets[0].startswith("node")
