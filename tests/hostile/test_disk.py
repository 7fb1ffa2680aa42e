"""On a full disk every writer leaves the former file whole and nothing beside it, and training goes on."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl_exporter import RunInfo, SanctumAggregator
from rl_exporter.alerting.bundle import BundleError, bundle_files, write_bundle
from rl_exporter.alerting.rewriting import Choices
from rl_exporter.discovery.file_sd import read_groups
from rl_exporter.discovery.registration import RegistrationError, claim
from rl_exporter.panel.app import WatchApp
from rl_exporter.whole_files import WRITING, check_writable, whole_file
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.checkpoint import save
from rl_training.run.checkpointer import CheckpointedView, Checkpointer
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from rl_training.telemetry.rollout_archive import RolloutArchive
from stack.processes import free_address
from tests.support.scraping import scrape
from tests.support.small_runs import logged_updates
from tests.support.trees import tree
from tests.support.waiting import until


@pytest.fixture(scope="module")
def run():
    """A run after one update."""
    environment = make_environment("heads", 2, {})
    agent = PPOAgent(environment.heads, environment.observation_size, PPOConfig(hidden=16, rollout_steps=8))
    agent.archive = RolloutArchive(agent.network.layout, environment.consulted)
    aggregator = SanctumAggregator(agent.heads, RunInfo("full"))
    collector = RolloutCollector(environment, agent.network, seed=0, device=agent.device)
    train(
        agent, collector, Emitter([aggregator], aggregator.count_record_error), Limits(1, None), lambda: False
    )
    return SimpleNamespace(agent=agent, collector=collector, aggregator=aggregator)


def checkpoint(run, folder):
    save(folder, run.agent, run.collector, run.aggregator.snapshot())
    return lambda: save(folder, run.agent, run.collector, run.aggregator.snapshot())


def archive(run, folder):
    run.agent.archive.save(folder / "rollouts.npz")
    return lambda: run.agent.archive.save(folder / "rollouts.npz", 10)


def picture(run, folder):
    # So long that no empty page of a full tmpfs takes it.
    panel = SimpleNamespace(picture=lambda: "<svg>" * 10_000, _picture_name=lambda: str(folder / "run"))
    said = []
    panel.notify = lambda text, severity="", markup=False: said.append((text, severity))

    def act():
        WatchApp.action_save(panel)
        if said[-1][1] == "error":
            raise OSError(said[-1][0])

    return act


def new_entry(run, folder):
    return lambda: claim(folder, ["run"], {"cluster": "lab"})


def entry(run, folder):
    registration = claim(folder, ["run"], {"cluster": "x" * 5000})
    registration.publish("127.0.0.1:1")
    return lambda: registration.publish("127.0.0.1:2")


def pruned_entry(run, folder):
    """Somebody took the entry away, and the next heartbeat writes it anew."""
    registration = claim(folder, ["run"], {"cluster": "x" * 5000})
    for path in folder.glob("*.run.json"):
        path.unlink()
    return registration._heartbeat


def bundle(run, folder):
    return lambda: write_bundle(folder / "monitoring", bundle_files(Choices()))


def bundle_into_a_folder(run, folder):
    (folder / "monitoring").mkdir()
    return lambda: write_bundle(folder / "monitoring", bundle_files(Choices()))


WRITERS = (checkpoint, archive, picture, new_entry, entry, pruned_entry, bundle, bundle_into_a_folder)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_leaves_the_former_file_whole_and_nothing_beside_it(writer, disk, run):
    act = writer(run, disk.folder)
    before = tree(disk.folder)
    with disk.full():
        for _ in range(3):
            with pytest.raises((OSError, RegistrationError, BundleError)) as raised:
                act()
            assert tree(disk.folder) == before
    assert "\n" not in str(raised.value)
    assert str(raised.value) not in {"", "None"}


def test_a_checkpoint_that_cannot_be_written_ends_no_run_and_is_logged_once(tmpfs, run, caplog):
    view = CheckpointedView(run.aggregator.snapshot)
    checkpointer = Checkpointer(tmpfs.folder, run.agent, run.collector, view, keep=3)
    checkpointer.write(run.aggregator.snapshot())
    for _ in range(2):
        before = tree(tmpfs.folder)
        with tmpfs.full():
            for _ in range(3):
                checkpointer.write(run.aggregator.snapshot())
        assert tree(tmpfs.folder) == before
        checkpointer.write(run.aggregator.snapshot())
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert caplog.messages[0].endswith("No space left on device; the former one stays, and the run goes on")


@pytest.mark.parametrize("error", [RuntimeError("enforce fail"), MemoryError()], ids=["torch", "memory"])
def test_whatever_a_library_raises_while_it_writes_ends_no_run(tmp_path, run, caplog, monkeypatch, error):
    def broken(*_):
        raise error

    checkpointer = Checkpointer(tmp_path, run.agent, run.collector, CheckpointedView(run.aggregator.snapshot))
    monkeypatch.setattr("torch.save", broken)
    checkpointer.write(run.aggregator.snapshot())
    (said,) = caplog.messages
    assert type(error).__name__ in said
    assert tree(tmp_path) == {}


def test_an_error_within_a_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")
    for error in (RuntimeError, KeyboardInterrupt):
        with suppress(error), whole_file(path) as file:
            file.write(b"part")
            raise error
    check_writable(path)
    assert tree(tmp_path) == {"file": b"former"}
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "former"
    assert tree(tmp_path) == {"file": b"new"}


def test_a_link_stays_and_a_mode_too(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("secret")
    path.chmod(0o600)
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_lies_where_a_write_begins_is_not_opened(tmp_path):
    """A pipe there would wait for a reader for ever, and a link could lead anywhere."""
    path = tmp_path / "file"
    partial = tmp_path / f"file{WRITING}"
    other = tmp_path / "other"
    other.write_text("somebody's")
    for lay in (
        lambda: os.mkfifo(partial),
        lambda: partial.symlink_to(other),
        lambda: partial.write_text("rest"),
    ):
        lay()
        with whole_file(path) as file:
            file.write(b"new")
        assert tree(tmp_path) == {"file": b"new", "other": b"somebody's"}


def test_a_device_is_written_and_not_replaced(tmp_path):
    nothing = Path(os.devnull)
    before = nothing.stat()
    with whole_file(nothing) as file:
        file.write(b"nothing")
    assert os.path.samestat(before, nothing.stat())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device or address"):
        check_writable(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as file:
        file.write(b"read")
    assert os.read(reader, 9) == b"read"
    os.close(reader)


FLAGS = [
    "--env",
    "heads",
    "--num-envs",
    "4",
    "--rollout-steps",
    "8",
    "--updates",
    "12",
    "--pace",
    "0.1",
    "--run-id",
    "full",
]


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_and_is_cleared_loses_no_update(tmpfs):
    """Checkpoints, log, rollouts, entry and what it prints are all on that disk."""
    folder, address = tmpfs.folder, free_address()
    (folder / "targets").mkdir()
    (folder / "rollouts.npz").write_text("former")
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "rl_training", *FLAGS, "--listen", address, "--linger", "0",
             "--checkpoint", folder / "state", "--log-json", folder / "log", "--register", folder / "targets",
             "--record-rollouts", folder / "rollouts.npz"], stdout=out, stderr=err)  # fmt: skip
    try:
        until(lambda: (folder / "log").exists() and len(logged_updates((folder / "log").read_bytes())) > 1)
        with tmpfs.full():
            seen = updates(address)
            until(lambda: updates(address) >= seen + 4, every=0.02)
            assert logged_updates((folder / "log").read_bytes())[-1] <= seen + 1
            assert (folder / "state/checkpoint.pt").stat().st_size > 1000
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
    assert logged_updates((folder / "log").read_bytes()) == list(range(1, 13))
    assert tree(folder / "targets") == {}
    assert {name for name in tree(folder) if name.endswith(WRITING)} == set()
    assert (folder / "rollouts.npz").read_bytes()[:2] == b"PK"
    said = (folder / "err").read_text()
    assert "Traceback" not in said
    resumed = subprocess.run(
        [sys.executable, "-m", "rl_training", *FLAGS, "--listen", address, "--linger", "0", "--checkpoint",
         folder / "state", "--resume", "--updates", "13", "--quiet"], capture_output=True, text=True, check=False)  # fmt: skip
    assert (resumed.returncode, resumed.stderr) == (0, "")


def updates(address):
    line = next(
        line
        for line in scrape(f"http://{address}/metrics").splitlines()
        if line.startswith("rl_training_updates")
    )
    return float(line.rsplit(" ", 1)[1])


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_no_run(tmpfs):
    folder = tmpfs.folder
    (folder / "rollouts.npz").write_text("former")
    with tmpfs.full():
        done = subprocess.run(
            [sys.executable, "-m", "rl_training", *FLAGS, "--pace", "0", "--listen", "127.0.0.1:0", "--linger", "0",
             "--checkpoint", folder / "state", "--log-json", folder / "log", "--record-rollouts", folder / "rollouts.npz"],
            capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0
    assert "run full completed" in done.stdout
    said = done.stderr.splitlines()
    assert len(said) == len(set(said)) == 4, done.stderr
    assert all("rl-train: " in line for line in said)
    assert tree(folder) == {"log": b"", "rollouts.npz": b"former", "state": None}


def test_a_run_that_the_disk_refuses_from_the_start_says_so_in_one_line(tmp_path, capsys):
    from rl_training.run.cli import main

    former = tmp_path / "file"
    former.write_text("former")
    fixed = [*FLAGS, "--listen", "127.0.0.1:0", "--linger", "0"]
    for option, path in (
        ("--log-json", tmp_path),
        ("--record-rollouts", tmp_path),
        ("--log-json", tmp_path / "none" / "log"),
        ("--record-rollouts", former / "below"),
    ):
        assert main([*fixed, option, str(path)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{option} '{path}': " in said
        assert "give a file that can be written" in said
    assert tree(tmp_path) == {"file": b"former"}


def test_a_run_that_is_refused_for_another_reason_has_left_the_former_rollouts(tmp_path):
    from rl_training.run.cli import main

    rollouts = tmp_path / "rollouts"
    rollouts.write_text("former")
    nowhere = tmp_path / "none" / "targets"
    assert (
        main(
            [*FLAGS, "--listen", "127.0.0.1:0", "--record-rollouts", str(rollouts), "--register", str(nowhere)]
        )
        == 2
    )
    assert tree(tmp_path) == {"rollouts": b"former"}


def test_entries_are_whole_after_the_disk_has_room_again(tmpfs):
    registration = claim(tmpfs.folder, ["run"], {})
    with tmpfs.full(), pytest.raises(RegistrationError, match="make room"):
        registration.publish("127.0.0.1:1" + "0" * 5000)
    registration.publish("127.0.0.1:2")
    (group,) = read_groups(tmpfs.folder / "run.run.json")
    assert group.targets == ["127.0.0.1:2"]
    registration.close()
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN, "Python turns it into an error"
