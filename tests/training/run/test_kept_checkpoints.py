"""Which checkpoints a run keeps, and from which it goes on."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from rl_training.algorithm.episodes import WINDOW
from rl_training.run.checkpoint import load
from rl_training.run.checkpointer import CheckpointedView, Checkpointer
from rl_training.run.cli import main
from tests.support.small_runs import FIXED, setup
from tests.support.trees import tree


@contextmanager
def checkpointing(folder, keep=1):
    """A function that writes the checkpoint of an update with a return, as the training does after it."""
    agent, collector, aggregator = setup()
    view = CheckpointedView(aggregator.snapshot)
    checkpointer = Checkpointer(folder, agent, collector, view, keep)
    first = aggregator.snapshot()

    def write(update, episode_return, episodes=WINDOW):
        tamiyo = replace(first.tamiyo, updates=update)
        checkpointer.write(replace(first, tamiyo=tamiyo, episode_return=episode_return, episodes=episodes))

    yield write


def updates_in(folder):
    agent, *_ = setup()
    return {
        name: load(folder, agent, name).snapshot.tamiyo.updates
        for name in ("newest", "best", *(str(number) for number in range(20)))
        if (
            folder
            / {"newest": "checkpoint.pt", "best": "checkpoint-best.pt"}.get(name, f"checkpoint-{name}.pt")
        ).exists()
    }


def test_the_newest_and_the_best_by_return_are_kept(tmp_path):
    with checkpointing(tmp_path) as write:
        for update, value in enumerate((1.0, 3.0, 2.0, 3.0, 0.5), 1):
            write(update, value)
    assert updates_in(tmp_path) == {"newest": 5, "best": 2}
    assert len(tree(tmp_path)) == 2


def test_the_last_ones_are_kept_for_those_who_ask(tmp_path):
    with checkpointing(tmp_path, keep=3) as write:
        for update, value in enumerate((1.0, 3.0, 2.0, 2.5, 0.5), 1):
            write(update, value)
    assert updates_in(tmp_path) == {"newest": 5, "best": 2, "3": 3, "4": 4, "5": 5}
    files = {path.stat().st_ino for path in tmp_path.iterdir()}
    assert len(files) == 4, "the newest has two names, and is written once"


def test_the_best_is_only_told_from_enough_episodes(tmp_path):
    with checkpointing(tmp_path) as write:
        write(1, None, episodes=0)
        assert updates_in(tmp_path) == {"newest": 1}
        write(2, 9.0, episodes=2)
        write(3, 4.0, episodes=WINDOW - 1)
        assert updates_in(tmp_path)["best"] == 3
        write(4, 3.0)
        write(5, 2.0)
    assert updates_in(tmp_path)["best"] == 4


def test_a_resumed_run_knows_the_best_so_far(tmp_path):
    with checkpointing(tmp_path) as write:
        write(1, 3.0)
        write(2, 1.0)
    with checkpointing(tmp_path) as write:
        write(3, 2.0)
    assert updates_in(tmp_path) == {"newest": 3, "best": 1}
    (tmp_path / "checkpoint-best.pt").write_bytes(b"damaged")
    with checkpointing(tmp_path) as write:
        write(4, 0.5)
    assert updates_in(tmp_path) == {"newest": 4, "best": 4}


def test_a_run_that_goes_back_keeps_what_it_writes_and_not_what_has_a_higher_number(tmp_path):
    with checkpointing(tmp_path, keep=2) as write:
        for update in (9, 10):
            write(update, 1.0)
    with checkpointing(tmp_path, keep=2) as write:
        for update in (3, 4):
            write(update, 0.5)
    assert updates_in(tmp_path) == {"newest": 4, "best": 9, "3": 3, "4": 4}


def test_who_does_not_ask_for_the_last_ones_loses_none(tmp_path):
    with checkpointing(tmp_path, keep=3) as write:
        for update in (4, 5, 6):
            write(update, 1.0)
    with checkpointing(tmp_path) as write:
        for update in (5, 6, 7):
            write(update, 2.0)
    assert updates_in(tmp_path) == {"newest": 7, "best": 5, "4": 4, "5": 5, "6": 6}
    with checkpointing(tmp_path, keep=2) as write:
        write(8, 1.0)
    assert updates_in(tmp_path) == {"newest": 8, "best": 5, "6": 6, "8": 8}


def test_a_file_system_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", none)
    with checkpointing(tmp_path, keep=2) as write:
        for update in (1, 2, 3):
            write(update, float(-update))
    assert updates_in(tmp_path) == {"newest": 3, "best": 1, "2": 2, "3": 3}


@pytest.mark.slow
def test_a_run_goes_on_from_before_its_fall(tmp_path, capsys):
    state = tmp_path / "state"
    command = [*FIXED, "--checkpoint", str(state), "--keep-checkpoints", "3"]
    assert main([*command, "--updates", "6"]) == 0
    assert sorted(path.name for path in state.iterdir()) == [
        "checkpoint-4.pt", "checkpoint-5.pt", "checkpoint-6.pt", "checkpoint-best.pt", "checkpoint.pt"
    ]  # fmt: skip
    (state / "checkpoint.pt").write_bytes(b"damaged")
    assert main([*command, "--resume", "--updates", "7"]) == 2
    assert capsys.readouterr().err.endswith("go on from another one, --resume-from best or 6 or 5 or 4\n")
    assert main([*command, "--resume-from", "3", "--updates", "7"]) == 2
    assert capsys.readouterr().err.endswith("--resume-from takes best, 6, 5, 4\n")
    assert main([*command[:-2], "--resume-from", "4", "--updates", "5"]) == 0
    assert {"checkpoint-4.pt", "checkpoint-5.pt", "checkpoint-6.pt"} <= {path.name for path in state.iterdir()}
    assert main([*command, "--updates", "9"]) == 2
    assert "holds the state of a run" in capsys.readouterr().err
    assert main([*command, "--resume-from", "best", "--updates", "7"]) == 0


@pytest.mark.parametrize("which", ["worst", "-1", "", "1.5", "../6", "²"])
def test_only_names_of_checkpoints_are_taken(which, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*FIXED, "--checkpoint", "state", f"--resume-from={which}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "give best, or the number of its update" in said
    assert said.count("\n") == 1


def test_an_older_checkpoint_needs_its_folder(capsys):
    assert main([*FIXED, "--resume-from", "best"]) == 2
    assert "--resume-from needs the folder to go on from" in capsys.readouterr().err
