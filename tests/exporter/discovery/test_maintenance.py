"""``rl-exporter targets``: what it calls dead, and that nothing else is ever removed."""

import json
import os
import socket
import time

import pytest

import rl_exporter
from rl_exporter.cli.main import main
from rl_exporter.discovery.entry import STALE_SECONDS, entry_path
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups

OLD = STALE_SECONDS + 1


@pytest.fixture
def run(tmp_path):
    register = rl_exporter.Discovery(tmp_path, {"cluster": "lab"})
    recorder = rl_exporter.serve({"arm": 2}, run_id="alive", listen="127.0.0.1:0", linger=0, register=register)
    yield recorder
    recorder.close()


@pytest.fixture
def nobody(monkeypatch):
    """An address of this machine, by its name, where nobody listens."""
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"localhost:{taken.getsockname()[1]}"


def put(directory, run_id, *targets, age=0.0):
    path = entry_path(directory, run_id, {})
    path.write_bytes(dump_groups(TargetGroup(targets, {})))
    os.utime(path, (time.time() - age,) * 2)
    return path


def listed(directory, capsys):
    assert main(["targets", "list", str(directory), "--json", "--timeout", "1"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {document["run_id"]: document for document in documents}


def prune(directory, capsys, *options):
    status = main(["targets", "prune", str(directory), "--timeout", "1", *options])
    return status, capsys.readouterr()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_every_registered_run_is_listed_with_what_is_known_of_it(run, nobody, tmp_path, capsys):
    put(tmp_path, "never", age=OLD)
    put(tmp_path, "gone", nobody)
    put(tmp_path, "other", run.url.removeprefix("http://"), age=20)
    put(tmp_path, "lost", "no-such-host.invalid:9", age=OLD)
    entry_path(tmp_path, "broken", {}).write_text("[{")
    found = listed(tmp_path, capsys)
    assert {name: (document["condition"], document["dead"]) for name, document in found.items()} == {
        "alive": ("up", False),
        "never": ("starting", True),
        "gone": ("gone", True),
        "other": ("gone", False),
        "lost": ("silent", True),
        "broken": ("broken", False),
    }
    assert found["alive"]["labels"] == {"cluster": "lab"}
    assert found["lost"]["heartbeat_age_seconds"] > STALE_SECONDS

    assert main(["targets", "list", str(tmp_path), "--timeout", "1"]) == 0
    header, *rows, summary = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "address", "labels", "heartbeat", "condition"]
    assert len(rows) == 6
    (row,) = [row for row in rows if row.startswith("alive")]
    name, address, labels, seconds, *rest = row.split()
    assert (name, address, labels) == ("alive", run.url.removeprefix("http://"), "cluster=lab")
    assert (seconds.isdigit(), rest) == (True, ["s", "ago", "up"])
    assert summary == f"6 registered, 3 dead: rl-exporter targets prune {tmp_path} removes them"


def test_dead_entries_are_removed_and_nothing_else(run, nobody, tmp_path, capsys):
    by_hand = tmp_path / "by-hand.json"
    by_hand.write_bytes(dump_groups(TargetGroup([nobody], {})))
    os.utime(by_hand, (1, 1))
    (tmp_path / ".young.partial").write_text("half")
    (tmp_path / ".old.partial").write_text("half")
    os.utime(tmp_path / ".old.partial", (1, 1))
    os.utime(entry_path(tmp_path, "alive", {"cluster": "lab"}), (1, 1))
    put(tmp_path, "gone", nobody)
    put(tmp_path, "loopback", nobody.replace("localhost", "127.0.0.1"))
    put(tmp_path, "lost", "no-such-host.invalid:9", age=OLD)
    put(tmp_path, "unreachable", "no-such-host.invalid:9", age=STALE_SECONDS - 60)
    entry_path(tmp_path, "broken", {}).write_text("[{")
    before = names(tmp_path)

    status, said = prune(tmp_path, capsys, "--dry-run")
    assert status == 0
    assert sorted(line.split(":")[0] for line in said.out.splitlines()) == [
        "would remove gone at localhost",
        "would remove lost at no-such-host.invalid",
    ]
    assert names(tmp_path) == before

    status, said = prune(tmp_path, capsys)
    assert status == 0
    assert sorted(line.split(" at ")[0] for line in said.out.splitlines()) == ["removed gone", "removed lost"]
    assert "nobody listens there, or another run, last heartbeat " in said.out
    gone = {".old.partial", "gone.run.json", "lost.run.json"}
    assert set(before) - set(names(tmp_path)) == gone


def test_the_age_can_be_chosen(tmp_path, capsys):
    put(tmp_path, "young", "no-such-host.invalid:9", age=30)
    assert prune(tmp_path, capsys, "--older-than", "60")[1].out == ""
    assert "removed young" in prune(tmp_path, capsys, "--older-than", "20")[1].out
    assert names(tmp_path) == []


def test_an_entry_that_comes_alive_while_it_is_looked_at_stays(tmp_path, capsys, monkeypatch):
    path = put(tmp_path, "back", "no-such-host.invalid:9", age=OLD)

    def beat(self, target):
        from rl_exporter.client.fetch import UnreachableError

        os.utime(path)
        raise UnreachableError("no answer")

    monkeypatch.setattr("rl_exporter.client.fetch.Fetcher.fetch", beat)
    assert prune(tmp_path, capsys)[1].out == ""
    assert path.exists()


def test_what_cannot_be_removed_is_named_and_the_rest_goes(tmp_path, capsys, monkeypatch):
    from pathlib import Path

    for name in ("mine", "theirs"):
        put(tmp_path, name, age=OLD)
    real = Path.unlink

    def unlink(self, missing_ok=False):
        if "theirs" in self.name:
            raise PermissionError(13, "Permission denied")
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    status, said = prune(tmp_path, capsys)
    assert status == 2
    assert "removed mine" in said.out
    assert said.err.count("\n") == 1
    assert "theirs.run.json: Permission denied; run this as the owner of the file" in said.err
    assert names(tmp_path) == ["theirs.run.json"]


def test_nothing_in_a_name_steers_the_terminal(tmp_path, capsys):
    put(tmp_path, "a\x1b[31m\nb", age=OLD)
    main(["targets", "list", str(tmp_path)])
    main(["targets", "prune", str(tmp_path)])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.count("\n") == 4


def test_an_empty_directory(tmp_path, capsys):
    assert main(["targets", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0 registered\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["targets"], "required: ACTION"),
        (["targets", "list"], "required: DIR"),
        (["targets", "list", "/nope"], "'/nope': No such file or directory; give the directory that runs register in"),
        (["targets", "prune", "/nope"], "'/nope': No such file or directory; give the directory"),
        (["targets", "prune", "/etc/passwd"], "'/etc/passwd': Not a directory; give the directory"),
        (["targets", "prune", "/tmp", "--older-than", "-1"], "'-1' is not possible; give seconds >= 0"),
        (["targets", "list", "/tmp", "--timeout", "0"], "'0' is not possible; give seconds >= 0.1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(arguments, reason, capsys):
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
