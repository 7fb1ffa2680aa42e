"""A discovery directory that others can write to: whatever they put there costs a reader one line.

Each command runs in a process with limits on memory and CPU time, so that a reader that swallows a bomb fails
instead of the machine.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from rl_exporter.discovery import directory as directory_module
from rl_exporter.discovery import entry as entry_module
from rl_exporter.discovery.directory import read_directory
from rl_exporter.discovery.entry import STALE_SECONDS, entry_path, read_entries
from tests.support.bad_servers import BODY, answering, http
from tests.support.entries import age, files

pytestmark = pytest.mark.slow

COMMAND = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
sys.argv = ["rl-exporter", *sys.argv[1:]]
from rl_exporter.cli.main import main
sys.exit(main())
"""


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{former}'] * 9)}]\n"
    for former, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{former}'] * 9)}]}}\n"
    for former, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def loop(path):
    path.symlink_to(path.name)


def writing(text):
    return lambda path: path.write_text(text)


THINGS = {
    "pipe.json": (os.mkfifo, "it is no regular file"),
    "pipe.yml": (os.mkfifo, "it is no regular file"),
    "device.json": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "device.yml": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "folder.json": (lambda path: path.mkdir(), "it is no regular file"),
    "loop.json": (loop, "Too many levels of symbolic links"),
    "sparse.json": (sparse, "it is larger than 1024 KiB"),
    "sparse.yml": (sparse, "it is larger than 1024 KiB"),
    "deep.json": (writing("[" * 500_000), "nested more than 32 levels"),
    "nested.json": (writing("[" * 100 + "]" * 100), "nested more than 32 levels"),
    "deep.yml": (writing("[" * 500_000), "nested more than 32 levels"),
    "blocks.yml": (writing("\n".join(" " * n + "-" for n in range(1000))), "nested more than 32 levels"),
    "keys.yml": (writing("? " * 100_000), "nested more than 32 levels"),
    "bomb.yml": (writing(BOMB), "more than 100000 values"),
    "merges.yml": (writing(MERGES), "more than 100000 values"),
    "chain.yml": (
        writing("- &a0 [x]\n" + "".join(f"- &a{n + 1} [*a{n}]\n" for n in range(100))),
        "nested more than 32 levels",
    ),
    "itself.yml": (writing("&a [*a]"), "stands for itself"),
    "sixties.yml": (writing("- " + ":".join(["59"] * 100_000)), "longer than 4096 characters"),
    "digits.json": (writing("[" + "9" * 100_000 + "]"), "Exceeds the limit"),
    "tag.yml": (writing("!!bool maybe"), "does not fit its tag"),
    "object.yml": (writing("!!python/object/apply:os.system ['true']"), "could not determine a constructor"),
    "address.json": (writing(json.dumps([{"targets": ["x" * 10_000]}])), "is not HOST:PORT"),
    "label.json": (writing('[{"targets": ["a:1"], "labels": {"x": [1]}}]'), "of a label is no text"),
    "escape.json": (writing("[\x1b]2;x\x07"), "Expecting value"),
    "flat.yml": (writing("- x\n" * 200_000), "more than 100000 values"),
}
"""What others put there, and what the reader says."""


@pytest.fixture
def run():
    """The address of a run that answers."""
    with answering(lambda connection, stop: connection.sendall(http(BODY))) as address:
        yield address


def test_watch_names_each_thing_in_one_line_and_shows_the_runs(tmp_path, run):
    for name, (place, _) in THINGS.items():
        place(tmp_path / name)
    (tmp_path / "good.json").write_text(json.dumps([{"targets": [run]}]))
    done = command("watch", "--once", "--json", "--targets", tmp_path)
    assert json.loads(done.stdout)["run_id"] == "run"
    said = done.stderr.splitlines()
    assert len(said) == directory_module._MAX_PROBLEMS + 1
    assert said[-1] == f"rl-exporter watch: and {len(THINGS) - len(said) + 1} more files"
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", THINGS)
def test_each_thing_is_named_with_the_reason(name, tmp_path):
    place, reason = THINGS[name]
    place(tmp_path / name)
    targets, (problem,) = read_directory(tmp_path)
    assert targets == []
    assert str(tmp_path / name) in problem
    assert reason in problem
    assert problem.isprintable()
    assert len(problem) < len(str(tmp_path)) + 300


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


@pytest.fixture
def _no_signal():
    """The kernel tells the holder of a lease that somebody wants the file; the default action ends it."""
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, former)


@pytest.mark.usefixtures("_no_signal")
def test_a_file_under_a_lease_keeps_nobody_waiting(tmp_path):
    """Opening it would wait for 45 s, until the kernel breaks the lease."""
    path = tmp_path / "leased.json"
    path.write_text("[]")
    with path.open("r+") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        _, (problem,) = read_directory(tmp_path)
        assert "Resource temporarily unavailable" in problem
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


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


def test_of_more_files_than_any_fleet_has_the_first_are_read_and_the_rest_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(directory_module, "MAX_FILES", 5)
    monkeypatch.setattr(entry_module, "MAX_ENTRIES", 5)
    for number in range(7):
        (tmp_path / f"{number}.run.json").write_text(json.dumps([{"targets": [f"a:{number + 1}"]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 5
    assert "is shown in part" in problem
    assert len(list(read_entries(tmp_path))) == 5
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "many.json").write_text(json.dumps([{"targets": [f"a:{n}" for n in range(1, 9)]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 5
    assert "is shown in part" in problem


def test_reading_a_directory_ends_although_every_file_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(directory_module, "_MAX_SECONDS", 0.0)
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(json.dumps([{"targets": [f"a:{number + 1}"]}]))
    targets, (problem,) = read_directory(tmp_path)
    assert len(targets) == 1
    assert "is shown in part" in problem


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
