"""``rl-train --register``: the entry of a run, from its claim to its end."""

import json
import socket
import urllib.request

import pytest

import rl_exporter
from rl_exporter.discovery.entry import entry_path
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_training.run import app
from rl_training.run.cli import main

pytestmark = pytest.mark.slow

FIXED = ["--env", "heads", "--num-envs", "8", "--updates", "1", "--linger", "0", "--quiet"]


@pytest.fixture
def at_the_end(monkeypatch):
    """What is called when the run has ended and waits for its scrapers."""
    calls = []
    real = app.linger

    def linger(*arguments):
        for call in calls:
            call(arguments[0])
        real(*arguments)

    monkeypatch.setattr(app, "linger", linger)
    return calls


def train(directory, *arguments):
    try:
        return main([*FIXED, "--listen", "127.0.0.1:0", "--register", str(directory), *arguments])
    except SystemExit as exit_:
        return exit_.code


def test_the_entry_says_where_the_run_is_until_its_end_was_shown(tmp_path, at_the_end):
    seen = {}

    def look(server):
        (path,) = tmp_path.iterdir()
        ((group,)) = json.loads(path.read_text())
        (address,) = group["targets"]
        seen[path.name] = group["labels"]
        body = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
        assert 'rl_training_run_state{run_id="one",state="completed"} 1' in body

    at_the_end.append(look)
    assert train(tmp_path, "--run-id", "one", "--label", "cluster=lab", "--label", "team=a=b") == 0
    assert seen == {"one@lab.run.json": {"cluster": "lab", "team": "a=b"}}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--listen", "0.0.0.0:0"], socket.gethostname()),
        (["--listen", ":0", "--advertise", "gateway"], "gateway"),
        (["--listen", "127.0.0.1:0"], "127.0.0.1"),
    ],
)
def test_a_free_port_is_registered_at_a_host_that_others_can_reach(arguments, address, tmp_path, at_the_end):
    seen = []

    def look(server):
        (path,) = tmp_path.iterdir()
        seen.extend(json.loads(path.read_text())[0]["targets"])
        assert seen == [f"{address}:{server.address.port}"]

    at_the_end.append(look)
    assert train(tmp_path, *arguments) == 0
    assert not seen[0].endswith(":0")


def test_settings_may_come_from_a_file(tmp_path, at_the_end):
    (tmp_path / "targets").mkdir()
    config = tmp_path / "config.yml"
    config.write_text(f"output: {{register: {tmp_path / 'targets'}, label: {{cluster: lab, team: x}}}}\n")
    seen = []
    at_the_end.append(lambda server: seen.extend((tmp_path / "targets").iterdir()))
    arguments = [*FIXED, "--listen", "127.0.0.1:0", "--config", str(config), "--label", "cluster=other"]
    assert main([*arguments, "--run-id", "one"]) == 0
    assert [path.name for path in seen] == ["one@other.run.json"]


@pytest.fixture
def running(tmp_path):
    register = rl_exporter.Discovery(tmp_path)
    recorder = rl_exporter.serve({"arm": 2}, run_id="busy", listen="127.0.0.1:0", linger=0, register=register)
    yield recorder
    recorder.close()


def test_a_run_id_that_is_alive_is_refused_or_gets_a_number(running, tmp_path, capsys, at_the_end):
    assert train(tmp_path, "--run-id", "busy") == 2
    error = capsys.readouterr().err
    assert error.startswith("rl-train: error: run_id 'busy' is already registered at 127.0.0.1:")
    assert "--run-id-unique" in error
    assert error.count("\n") == 1

    seen = []
    at_the_end.append(lambda server: seen.extend(path.name for path in tmp_path.iterdir()))
    assert train(tmp_path, "--run-id", "busy", "--run-id-unique") == 0
    assert sorted(seen) == ["busy-2.run.json", "busy.run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["busy.run.json"]


def test_a_run_that_was_killed_goes_on_under_its_name_at_once(tmp_path):
    state, targets = tmp_path / "state", tmp_path / "targets"
    targets.mkdir()
    assert train(targets, "--run-id", "phoenix", "--checkpoint", str(state)) == 0
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        left = TargetGroup([f"127.0.0.1:{closed.getsockname()[1]}"], {})
        entry_path(targets, "phoenix", {}).write_bytes(dump_groups(left))
        assert train(targets, "--checkpoint", str(state), "--resume", "--updates", "2") == 0
    assert list(targets.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--label", "cluster"], "'cluster' is not NAME=VALUE"),
        (["--label", "1a=x"], "label '1a' is not possible: a name has letters, digits and _"),
        (["--label", "run_id=x"], "every series carries its own run_id"),
        (["--label", "head=x"], "the metrics of a run have a label of that name"),
        (["--advertise", "http://x"], "advertised address 'http://x' is not possible; give HOST"),
        (["--register", "/nope"], "cannot register in '/nope': No such file or directory; make it first"),
        (["--register", "/etc/passwd"], "cannot register in '/etc/passwd': Not a directory"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(arguments, reason, tmp_path, capsys):
    assert train(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("rl-train: error: ")
    assert reason in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--label", "a=b"], ["--advertise", "x"], ["--run-id-unique"]])
def test_what_only_makes_sense_with_a_directory_is_refused_without(arguments, capsys):
    assert main([*FIXED, "--listen", "127.0.0.1:0", *arguments]) == 2
    error = capsys.readouterr().err
    assert f"{arguments[0]} needs the directory to register the run in; give --register DIR" in error


def test_a_label_in_a_file_is_checked_as_well(tmp_path, capsys):
    config = tmp_path / "config.yml"
    config.write_text("output: {label: {run_id: x}}\n")
    assert main(["--config", str(config)]) == 2
    assert "output.label: label 'run_id' is not possible" in capsys.readouterr().err


def test_a_port_that_is_taken_leaves_no_entry(running, tmp_path, capsys):
    assert train(tmp_path, "--run-id", "late", "--listen", running.url.removeprefix("http://")) == 2
    assert "the port is in use" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["busy.run.json"]
