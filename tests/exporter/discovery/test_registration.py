"""A run's entry: kept alive, given up at its end, and never in the way of the training."""

import json
import threading
from pathlib import Path

import pytest

import rl_exporter
from rl_exporter.discovery import registration
from rl_exporter.discovery.entry import entry_path, read_entry
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_exporter.discovery.registration import Registration, claim
from tests.support.entries import LABELS, age, files
from tests.support.waiting import until


@pytest.fixture
def quick(tmp_path):
    """A published entry with a heartbeat every few milliseconds."""
    path = entry_path(tmp_path, "a", LABELS)
    path.write_bytes(dump_groups(TargetGroup([], LABELS)))
    entry = Registration(path, "a", LABELS, heartbeat=0.01)
    entry.publish("node1:9")
    yield entry
    entry.close()


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
    other = dump_groups(TargetGroup(["node2:9"], LABELS))
    path.with_suffix(".new").write_bytes(other)
    path.with_suffix(".new").replace(path)
    age(path, 1000)
    until(lambda: caplog.records or read_entry(path).age < 500)
    assert "another run has registered under this run_id" in caplog.text
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
