import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_exporter.discovery.entry import (
    HEARTBEAT_SECONDS,
    STALE_SECONDS,
    entry_path,
    partial_files,
    read_entries,
    read_entry,
)
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
identities = st.tuples(texts.filter(bool), texts, texts)


def path_of(directory, identity):
    run_id, cluster, namespace = identity
    labels = {name: value for name, value in (("cluster", cluster), ("namespace", namespace)) if value}
    return entry_path(directory, run_id, labels)


@given(identities, identities)
def test_every_run_has_a_file_of_its_own_that_can_be_one(tmp_path_factory, one, two):
    directory = tmp_path_factory.getbasetemp()
    path = path_of(directory, one)
    assert path.parent == directory
    assert path.name.endswith(".run.json")
    assert not path.name.startswith(".")
    assert len(os.fsencode(path.name)) < 255
    assert path.name.isascii()
    assert "/" not in path.name
    assert (path_of(directory, two) == path) == (two == one)


@pytest.mark.parametrize(
    "run_id", ["sweep-17", "a/b", "..", ".hidden", "a@b", "50%", "a=b", "Zürich", "tab\there", "~x"]
)
def test_the_name_of_the_file_says_which_run(run_id, tmp_path):
    path = entry_path(tmp_path, run_id, {"cluster": "lab", "namespace": "x", "team": "y"})
    path.write_bytes(dump_groups(TargetGroup(["node1:9"], {"team": "y"})))
    entry = read_entry(path)
    assert (entry.run_id, entry.address, entry.labels) == (run_id, "node1:9", {"team": "y"})


def test_the_same_run_id_in_another_cluster_is_another_run(tmp_path):
    names = {
        entry_path(tmp_path, "a", labels).name
        for labels in ({}, {"cluster": "x"}, {"namespace": "x"}, {"team": "x"})
    }
    assert names == {"a.run.json", "a@x.run.json", "a@@x.run.json"}


def test_a_long_run_id_is_cut_and_stays_its_own(tmp_path):
    one, two = (entry_path(tmp_path, "long" * 100 + end, {}) for end in "ab")
    assert one != two
    one.write_bytes(dump_groups(TargetGroup([], {})))
    assert read_entry(one).run_id.startswith("longlong")
    assert read_entry(one).run_id.endswith("…")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=30, max_size=80))
def test_what_is_left_of_a_long_run_id_is_its_beginning(tmp_path_factory, run_id):
    """Wherever within a character the name is cut, by which a run that answers is known."""
    path = entry_path(tmp_path_factory.getbasetemp(), run_id, {})
    path.write_bytes(dump_groups(TargetGroup([], {})))
    read = read_entry(path).run_id
    if "=" in path.name:
        assert len(read) > 9
        assert run_id.startswith(read.removesuffix("…"))
    else:
        assert read == run_id


def test_the_age_is_that_of_the_last_heartbeat(tmp_path):
    path = entry_path(tmp_path, "a", {})
    path.write_bytes(dump_groups(TargetGroup([], {})))
    os.utime(path, (time.time() - 1000,) * 2)
    assert 1000 <= read_entry(path).age < 2000
    os.utime(path)
    assert read_entry(path).age < 1000


@pytest.mark.parametrize(
    "text", ["", "[{", "[]", '[{"targets": ["http://a:1"]}]', "{}", '[{"targets":[]},{"targets":[]}]']
)
def test_a_broken_entry_says_what_is_wrong(text, tmp_path):
    path = tmp_path / "a.run.json"
    path.write_text(text)
    entry = read_entry(path)
    assert entry.problem
    assert entry.address is None


def test_nothing_that_others_put_there_keeps_a_reader_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.run.json")
    (tmp_path / "device.run.json").symlink_to("/dev/zero")
    (tmp_path / "huge.run.json").write_text("[" + " " * 2**20)
    (tmp_path / "folder.run.json").mkdir()
    (tmp_path / "dangling.run.json").symlink_to("nothing")
    problems = {entry.run_id: entry.problem for entry in read_entries(tmp_path)}
    assert problems.pop("huge") == "it is larger than 64 KiB"
    assert problems == dict.fromkeys(("dangling", "device", "folder", "pipe"), "it is no regular file")


def test_only_entries_are_read_not_what_people_wrote(tmp_path):
    (tmp_path / "by-hand.json").write_bytes(dump_groups(TargetGroup(["a:1"], {})))
    (tmp_path / ".x.partial").write_text("half")
    entry_path(tmp_path, "a", {}).write_bytes(dump_groups(TargetGroup(["a:2"], {})))
    assert [entry.run_id for entry in read_entries(tmp_path)] == ["a"]
    assert partial_files(tmp_path, 100) == []
    os.utime(tmp_path / ".x.partial", (1, 1))
    assert partial_files(tmp_path, 100) == [tmp_path / ".x.partial"]


def test_several_heartbeats_may_be_lost():
    assert STALE_SECONDS >= 3 * HEARTBEAT_SECONDS
