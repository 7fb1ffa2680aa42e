"""``rl-train`` on a disk that is full, fills up, is cleared, or refuses from the start."""

import subprocess
import sys

import pytest

from rl_exporter.whole_files import WRITING
from stack.processes import free_address
from tests.support.scraping import scrape
from tests.support.small_runs import lines_so_far, logged_updates
from tests.support.trees import tree
from tests.support.waiting import until

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
        until(lambda: len(lines_so_far(folder / "log")) > 1)
        with tmpfs.full():
            seen = updates(address)
            until(lambda: updates(address) >= seen + 4, every=0.02)
            assert lines_so_far(folder / "log")[-1]["update"] <= seen + 1
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
