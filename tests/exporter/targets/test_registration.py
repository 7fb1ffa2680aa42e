"""A run's entry: taken once, kept alive, given up at its end, and never in the way of the training."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import rl_exporter
from rl_exporter.names import run_id_candidates
from rl_exporter.targets import registration
from rl_exporter.targets.entry import STALE_SECONDS, entry_path, read_entry
from rl_exporter.targets.file_sd import Group, dump_groups
from rl_exporter.targets.registration import Registration, RegistrationError, claim

LABELS = {"cluster": "lab"}


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def quick(tmp_path):
    """A published entry with a heartbeat every few milliseconds."""
    path = entry_path(tmp_path, "a", LABELS)
    path.write_bytes(dump_groups(Group([], LABELS)))
    entry = Registration(path, "a", LABELS, heartbeat=0.01)
    entry.publish("node1:9")
    yield entry
    entry.close()


@pytest.fixture
def run(tmp_path):
    """A run that answers, and is registered."""
    recorder = rl_exporter.serve({"arm": 2}, run_id="a", listen="127.0.0.1:0", linger=0,
                                 register=rl_exporter.Discovery(tmp_path, LABELS))  # fmt: skip
    yield recorder
    recorder.close()


def test_an_entry_is_there_from_the_claim_has_an_address_once_published_and_goes_at_the_end(tmp_path):
    entry = claim(tmp_path, ["a"], LABELS)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == [{"targets": [], "labels": {"cluster": "lab"}}]
    entry.publish("node1:9")
    assert json.loads(path.read_text()) == [{"targets": ["node1:9"], "labels": {"cluster": "lab"}}]
    assert "run_id" not in path.read_text()
    entry.close()
    assert files(tmp_path) == []
    entry.close()


def test_a_run_that_is_served_is_registered_where_it_listens_until_it_is_closed(run, tmp_path):
    (path,) = tmp_path.iterdir()
    entry = read_entry(path)
    assert f"http://{entry.address}" == run.url
    assert (entry.run_id, entry.labels) == ("a", LABELS)
    run.close()
    assert files(tmp_path) == []


def test_a_run_that_cannot_start_leaves_no_entry(run, tmp_path):
    busy = run.url.removeprefix("http://")
    with pytest.raises(OSError, match="the port is in use"):
        rl_exporter.serve({"arm": 2}, run_id="b", listen=busy, register=rl_exporter.Discovery(tmp_path))
    with pytest.raises(ValueError, match="run_id is empty"):
        rl_exporter.serve({"arm": 2}, run_id="", listen="127.0.0.1:0", register=rl_exporter.Discovery(tmp_path))
    assert files(tmp_path) == ["a@lab.run.json"]


def test_a_run_id_that_is_registered_and_answers_is_refused_however_old_its_heartbeat(run, tmp_path):
    age(next(tmp_path.iterdir()), 10 * STALE_SECONDS)
    with pytest.raises(
        RegistrationError, match=r"run_id 'a' is already registered at 127\.0\.0\.1:\d+, last heart"
    ):
        claim(tmp_path, ["a"], LABELS)
    assert files(tmp_path) == ["a@lab.run.json"]


def test_or_gets_a_number(run, tmp_path):
    second = claim(tmp_path, run_id_candidates("a", unique=True), LABELS)
    third = claim(tmp_path, run_id_candidates("a", unique=True), LABELS)
    with second, third:
        assert (second.run_id, third.run_id) == ("a-2", "a-3")
        assert files(tmp_path) == ["a-2@lab.run.json", "a-3@lab.run.json", "a@lab.run.json"]


def test_the_same_run_id_in_another_cluster_is_no_conflict(run, tmp_path):
    with claim(tmp_path, ["a"], {"cluster": "other"}) as entry:
        assert entry.run_id == "a"


def test_generated_names_are_tried_until_one_is_free(tmp_path, monkeypatch):
    names = iter(["x", "x", "y"])
    monkeypatch.setattr("rl_exporter.names.generated_run_id", lambda: next(names))
    with claim(tmp_path, run_id_candidates()) as one, claim(tmp_path, run_id_candidates()) as two:
        assert (one.run_id, two.run_id) == ("x", "y")


def test_where_nobody_listens_any_more_the_name_is_free_at_once(run, tmp_path):
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    run.close()
    path.write_bytes(content)  # as after a kill
    with claim(tmp_path, ["a"], LABELS) as entry:
        assert entry.run_id == "a"
        assert read_entry(path).address is None


@pytest.mark.parametrize(
    "content", [dump_groups(Group([], {})), dump_groups(Group(["192.0.2.1:9"], {})), b"[{"]
)
def test_a_run_that_does_not_answer_keeps_its_name_as_long_as_its_heartbeat_is_fresh(
    content, tmp_path, monkeypatch
):
    monkeypatch.setattr("rl_exporter.panel.fetch.Fetcher.fetch", unreachable)
    path = entry_path(tmp_path, "a", {})
    path.write_bytes(content)
    with pytest.raises(RegistrationError, match="run_id 'a' is already registered"):
        claim(tmp_path, ["a"])
    assert path.read_bytes() == content
    age(path, STALE_SECONDS + 1)
    with claim(tmp_path, ["a"]) as entry:
        assert entry.run_id == "a"


def test_a_dead_run_of_somebody_else_keeps_its_name_where_it_cannot_be_removed(tmp_path, monkeypatch):
    path = entry_path(tmp_path, "a", {})
    path.write_bytes(dump_groups(Group([], {})))
    age(path, STALE_SECONDS + 1)

    def refused(self, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(
        RegistrationError, match="run_id 'a' is already registered and starting, last heartbeat"
    ):
        claim(tmp_path, ["a"])
    with claim(tmp_path, run_id_candidates("a", unique=True)) as entry:
        assert entry.run_id == "a-2"


def unreachable(self, target):
    from rl_exporter.panel.fetch import UnreachableError

    raise UnreachableError("no answer")


NAMES = 12
RACE = """
import os, sys
from pathlib import Path
from rl_exporter.targets.registration import RegistrationError, claim
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    try:
        claim(Path(sys.argv[1]), [f"same-{number}"])
    except RegistrationError:
        continue
    print(number, flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_processes_that_want_one_name_at_once_one_gets_it(stale, tmp_path):
    for number in range(NAMES * stale):
        path = entry_path(tmp_path, f"same-{number}", {})
        path.write_bytes(dump_groups(Group([], {})))
        age(path, STALE_SECONDS + 1)
    command = [sys.executable, "-c", RACE, tmp_path, str(NAMES)]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(line) for racer in racers for line in racer.communicate(timeout=60)[0].split()]
    assert sorted(won) == list(range(NAMES))
    assert len(files(tmp_path)) == NAMES


def test_a_heartbeat_touches_the_entry_and_never_rewrites_it(quick, tmp_path):
    (path,) = tmp_path.iterdir()
    before = path.stat()
    age(path, 1000)
    until(lambda: read_entry(path).age < 500)
    after = path.stat()
    assert after.st_ino == before.st_ino
    assert files(tmp_path) == [path.name]


def test_an_entry_that_was_pruned_while_the_run_lives_comes_back(quick, tmp_path):
    (path,) = tmp_path.iterdir()
    path.unlink()
    until(path.exists)
    assert read_entry(path).address == "node1:9"


def test_an_entry_that_another_run_took_over_is_neither_touched_nor_removed(quick, tmp_path, caplog):
    (path,) = tmp_path.iterdir()
    other = dump_groups(Group(["node2:9"], LABELS))
    path.with_suffix(".new").write_bytes(other)
    path.with_suffix(".new").replace(path)
    age(path, 1000)
    until(lambda: "another run has registered under this run_id" in caplog.text)
    quick.close()
    assert path.read_bytes() == other
    assert read_entry(path).age > 500
    assert len(caplog.records) == 1, "one line, not one a heartbeat"


def test_a_directory_that_goes_away_is_one_warning_and_the_run_goes_on(quick, tmp_path, caplog):
    (path,) = tmp_path.iterdir()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    until(lambda: "Prometheus may lose sight of this run" in caplog.text)
    moved.rename(tmp_path)
    age(path, 1000)
    until(lambda: read_entry(path).age < 500)
    quick.close()
    assert files(tmp_path) == []
    assert len(caplog.records) == 1


def test_the_end_of_a_run_does_not_wait_for_a_file_system_that_hangs(quick, tmp_path, caplog, monkeypatch):
    (path,) = tmp_path.iterdir()
    hang, real = threading.Event(), Path.unlink
    monkeypatch.setattr(registration, "CLOSE_SECONDS", 0.05)

    def hanging(self, missing_ok=False):
        hang.wait(60)
        real(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", hanging)
    quick.close()
    assert "no answer within 0.05 s; the entry stays" in caplog.text
    assert path.exists()
    hang.set()
    until(lambda: not path.exists())


CLAIM = """
import os, resource, sys
from pathlib import Path
import rl_exporter.panel.fetch
from rl_exporter.targets.registration import RegistrationError, claim
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
