"""On a full disk every writer leaves the former file whole and nothing beside it, and training goes on."""

import logging
import signal
from types import SimpleNamespace

import pytest

from rl_exporter import RunInfo, SanctumAggregator
from rl_exporter.alerting.bundle import BundleError, bundle_files, write_bundle
from rl_exporter.alerting.rewriting import Choices
from rl_exporter.discovery.file_sd import read_groups
from rl_exporter.discovery.registration import RegistrationError, claim
from rl_exporter.panel.app import WatchApp
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.checkpoint import save
from rl_training.run.checkpointer import CheckpointedView, Checkpointer
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from rl_training.telemetry.rollout_archive import RolloutArchive
from tests.support.trees import tree


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


def test_entries_are_whole_after_the_disk_has_room_again(tmpfs):
    registration = claim(tmpfs.folder, ["run"], {})
    with tmpfs.full(), pytest.raises(RegistrationError, match="make room"):
        registration.publish("127.0.0.1:1" + "0" * 5000)
    registration.publish("127.0.0.1:2")
    (group,) = read_groups(tmpfs.folder / "run.run.json")
    assert group.targets == ["127.0.0.1:2"]
    registration.close()
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN, "Python turns it into an error"
