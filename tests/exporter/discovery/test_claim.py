"""One name, one run: who gets it, and when it is free again."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import rl_exporter
from rl_exporter.discovery.entry import STALE_SECONDS, entry_path, read_entry
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_exporter.discovery.registration import RegistrationError, claim
from rl_exporter.identity import run_id_candidates
from tests.support.entries import LABELS, age, files


def test_a_run_id_that_is_registered_and_answers_is_refused_however_old_its_heartbeat(run, tmp_path):
    age(next(tmp_path.iterdir()), 10 * STALE_SECONDS)
    with pytest.raises(
        RegistrationError, match=r"run_id 'a' is already registered at 127\.0\.0\.1:\d+, last heart"
    ):
        claim(tmp_path, ["a"], LABELS)
    assert files(tmp_path) == ["a@lab.run.json"]


@pytest.mark.parametrize("characters", range(20, 24))
def test_also_one_that_is_too_long_for_a_file_name(characters, tmp_path):
    run_id, discovery = "x" * characters + 20 * "机器", rl_exporter.Discovery(tmp_path)
    run = rl_exporter.serve({"arm": 2}, run_id=run_id, listen="127.0.0.1:0", linger=0, register=discovery)
    with run, pytest.raises(RegistrationError, match="is already registered"):
        claim(tmp_path, [run_id], {})


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
    monkeypatch.setattr("rl_exporter.identity.generated_run_id", lambda: next(names))
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
    "content", [dump_groups(TargetGroup([], {})), dump_groups(TargetGroup(["192.0.2.1:9"], {})), b"[{"]
)
def test_a_run_that_does_not_answer_keeps_its_name_as_long_as_its_heartbeat_is_fresh(
    content, tmp_path, monkeypatch
):
    monkeypatch.setattr("rl_exporter.client.fetch.Fetcher.fetch", unreachable)
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
    path.write_bytes(dump_groups(TargetGroup([], {})))
    age(path, STALE_SECONDS + 1)

    remove = Path.unlink

    def refused(self, missing_ok=False):
        if self == path:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        remove(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(
        RegistrationError, match="run_id 'a' is already registered and starting, last heartbeat"
    ):
        claim(tmp_path, ["a"])
    with claim(tmp_path, run_id_candidates("a", unique=True)) as entry:
        assert entry.run_id == "a-2"


def unreachable(self, target):
    from rl_exporter.client.fetch import UnreachableError

    raise UnreachableError("no answer")


NAMES = 100
"""Four processes race for each."""

RACE = """
import os, sys
from pathlib import Path
from rl_exporter.discovery import registration
from rl_exporter.discovery.registration import RegistrationError, claim
# A thread of heartbeats for each of a thousand names would only compete with the race.
registration.Registration = lambda path, *_, **__: path
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
        path.write_bytes(dump_groups(TargetGroup([], {})))
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
    won = [int(line) for racer in racers for line in racer.communicate(timeout=300)[0].split()]
    assert sorted(won) == list(range(NAMES))
    assert len(files(tmp_path)) == NAMES
