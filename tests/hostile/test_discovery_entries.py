"""Entries of runs that others made or keep changing: a run starts, and nothing is removed that was not asked."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from rl_exporter.discovery import entry as entry_module
from rl_exporter.discovery.entry import STALE_SECONDS, entry_path
from tests.hostile.bounded_commands import command, loop, sparse, writing
from tests.support.entries import age, files

pytestmark = pytest.mark.slow

ENTRIES = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": loop,
    "folder": lambda path: path.mkdir(),
    "sparse": sparse,
    "deep": writing("[" * 50_000),
    "nested": writing("[" * 900 + "]" * 900),
    "wide": writing(json.dumps([{"targets": [], "labels": {"x": "y" * 60_000}}])),
}


@pytest.fixture
def crowded(tmp_path):
    """A directory with an old entry of each kind, one that drips its headers, and one that is alive."""
    for name, place in ENTRIES.items():
        path = entry_path(tmp_path, name, {})
        place(path)
        os.utime(path, (1, 1), follow_symlinks=False)
    for name in (".loop.partial", ".pipe.partial"):
        (loop if "loop" in name else os.mkfifo)(tmp_path / name)
        os.utime(tmp_path / name, (1, 1), follow_symlinks=False)
    return tmp_path


def test_list_shows_every_entry_on_a_line_that_fits(crowded):
    done = command("targets", "list", crowded, "--timeout", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(ENTRIES) + 2
    assert max(map(len, done.stdout.splitlines())) < 400


def test_prune_removes_what_is_dead_and_says_what_it_cannot(crowded):
    done = command("targets", "prune", crowded, "--timeout", "1")
    assert done.stderr.count("\n") == 1
    assert "folder.run.json: Is a directory" in done.stderr
    assert done.returncode == 2
    assert files(crowded) == ["folder.run.json"]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_run_starts_whatever_stands_at_its_name(name, crowded):
    claiming = (
        "import sys\nfrom pathlib import Path\n"
        "from rl_exporter.discovery.registration import claim\n"
        "from rl_exporter.identity import run_id_candidates\n"
        "with claim(Path(sys.argv[1]), run_id_candidates(sys.argv[2], unique=True)) as won: print(won.run_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", claiming, crowded, name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == (f"{name}-2" if name == "folder" else name)


@contextlib.contextmanager
def dripping_headers():
    """Answers with a header a tenth of a second, for as long as the client stays, at most a minute."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 200 OK\r\n")
                        for _ in range(600):
                            if stop.wait(0.1):
                                break
                            connection.sendall(b"X-Wait: yes\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_an_entry_that_drips_headers_is_silent_and_holds_up_no_start(tmp_path, monkeypatch):
    from rl_exporter.discovery import liveness, registration

    monkeypatch.setattr(registration, "liveness_probe", lambda: liveness.liveness_probe(0.5))
    with dripping_headers() as address:
        path = entry_path(tmp_path, "a", {})
        path.write_text(json.dumps([{"targets": [address]}]))
        age(path, STALE_SECONDS + 1)
        with registration.claim(tmp_path, ["a"]) as won:
            assert won.run_id == "a"


def test_an_entry_that_changes_at_every_look_holds_up_no_start(tmp_path, monkeypatch):
    from rl_exporter.discovery import registration

    path = entry_path(tmp_path, "a", {})
    path.write_text("[{")
    looks = []

    def touched(path):
        looks.append(1)
        os.utime(path, (len(looks), len(looks)))
        entry = entry_module.read_entry(path)
        os.utime(path, (len(looks) + 0.5,) * 2)
        return entry

    monkeypatch.setattr(registration, "read_entry", touched)
    with pytest.raises(registration.RegistrationError, match="run_id 'a' is already registered"):
        registration.claim(tmp_path, ["a"])
    assert len(looks) == registration._MAX_ATTEMPTS


def test_entries_whose_turn_does_not_come_are_said_and_never_removed(tmp_path, monkeypatch, capsys):
    from rl_exporter.cli.main import main
    from rl_exporter.discovery import maintenance

    monkeypatch.setattr(maintenance, "_PROBING_SECONDS", 0.0)
    path = entry_path(tmp_path, "a", {})
    path.write_text(json.dumps([{"targets": ["192.0.2.1:9"]}]))
    age(path, 10 * STALE_SECONDS)
    assert main(["targets", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["condition"] == "unasked"
    assert main(["targets", "prune", str(tmp_path)]) == 0
    assert path.exists()
