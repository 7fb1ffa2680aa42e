"""Real ranks: what they compute, and that a rank that dies or hangs neither hangs nor hides anything."""

import json
import os
import signal
import time

import pytest
import torch

from rl_training.ranks import SINGLE_PROCESS
from rl_training.run.cli import main
from stack.processes import free_address
from tests.support import rank_update
from tests.support.agents import poison
from tests.support.payloads import assert_close, exported
from tests.support.ranks import recorded_rollout
from tests.support.torchrun import PATIENCE, Scraper, Started, ranks_of
from tests.support.waiting import until

pytestmark = pytest.mark.slow

TRAIN = ("-m", "rl_training", "--env", "heads", "--num-envs", 8, "--rollout-steps", 16, "--minibatches", 4,
         "--quiet")  # fmt: skip
ENDLESS = ("--updates", 10**6, "--linger", 120)


@pytest.fixture
def started(tmp_path):
    processes = Started(tmp_path)
    yield processes
    processes.close()


@pytest.fixture
def scraper():
    return Scraper(free_address())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    whole = recorded_rollout()
    rollouts = {"whole": whole, "early stop": whole, "not finite": poison(whole, float("nan"))}
    torch.save(rollouts, folder / "rollouts.pt")
    return folder, dict(rank_update.results(SINGLE_PROCESS, rollouts))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_of_torchrun_find_and_learn_what_one_process_does(size, recorded, started):
    folder, alone = recorded
    process = started.torchrun(size, rank_update.__file__, folder)
    assert started.end(process) == 0, started.said(process)
    found_size, found = torch.load(folder / f"found-{size}.pt", weights_only=False)
    assert found_size == size
    for name, (parameters, result) in alone.items():
        assert torch.allclose(found[name][0], parameters, rtol=0, atol=1e-5)
        assert_close(exported(found[name][1]), exported(result))
    assert exported(found["whole"][1])["tempo.choice_entropy"] is None
    assert len(found["early stop"][1].head_entropy_history["op"]) < 8
    assert found["not finite"][1].nonfinite


def test_a_killed_rank_is_a_failed_run_although_torchrun_says_stop(started, scraper):
    process = started.torchrun(2, *TRAIN, *ENDLESS, "--listen", scraper.address)
    scraper.until_updates(2)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    until(lambda: "closing signal SIGTERM" in started.said(process)[1], PATIENCE)
    time.sleep(2)
    # Told to stop, rank 0 stays all the same until its end was scraped.
    scraper.until_state("failed")
    assert started.end(process, scraper) != 0
    out, err = started.said(process)
    assert "rl-train: ERROR: rank 1 of 2 is gone" in err
    assert scraper.seen == ["running", "failed"]
    assert out == ""


def test_a_rank_that_dies_is_noticed_in_the_middle_of_a_rollout_without_a_launcher(started, scraper, tmp_path):
    """The rollout takes for ever, so that no exchange finds it out, and the word has to go from 2 to 1 to 0."""
    endless = (
        "--env",
        "tests.support.slow_environment:Slow-v0",
        "--env-arg",
        f"folder={tmp_path}",
        "--rollout-steps",
        10**5,
    )
    shared = ("--num-envs", 3, "--minibatches", 1)
    processes = started.by_hand(3, *TRAIN, *endless, *shared, *ENDLESS, "--listen", scraper.address)
    until(lambda: len(list(tmp_path.glob("*.stepped"))) == 3, PATIENCE)
    scraper.until_state("running")
    processes[2].kill()
    scraper.until_state("failed")
    assert [started.end(process, scraper) for process in processes] == [1, 1, -signal.SIGKILL]
    assert "rank 2 of 3 is gone" in started.said(processes[0])[1]


def test_a_rank_that_hangs_fails_the_run_after_the_timeout(started, scraper):
    patience = ("--collective-timeout", 8, "--minibatches", 1)
    processes = started.by_hand(2, *TRAIN, *ENDLESS, *patience, "--listen", scraper.address)
    scraper.until_updates(1)
    processes[1].send_signal(signal.SIGSTOP)
    scraper.until_state("failed")
    assert started.end(processes[0], scraper) == 1
    assert "did not answer within 8 s" in started.said(processes[0])[1]


def test_a_stop_of_the_launcher_interrupts_the_run_and_it_can_be_resumed(started, scraper, tmp_path):
    log, state = tmp_path / "log", tmp_path / "state"
    targets = tmp_path / "targets"
    targets.mkdir()
    run = (*TRAIN, "--listen", scraper.address, "--log-json", log, "--checkpoint", state, "--register", targets)
    process = started.torchrun(2, *run, *ENDLESS)
    scraper.until_updates(2)
    assert 'world_size="2"' in scraper.metrics()
    assert len(list(targets.glob("*.json"))) == 1
    process.send_signal(signal.SIGTERM)
    scraper.until_state("interrupted")
    started.end(process, scraper)
    assert scraper.seen == ["running", "interrupted"]
    assert list(targets.glob("*.json")) == []
    made = len(log.read_text().splitlines())
    process = started.torchrun(2, *run, "--resume", "--updates", made + 2, "--linger", 0)
    assert started.end(process) == 0, started.said(process)
    # One process can go on from what two ranks have left.
    alone = [str(part) for part in (*run[2:], "--resume", "--updates", made + 3, "--linger", 0)]
    assert main(alone) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, made + 4))
    assert [line["rl_training_environment_steps_total"] for line in lines] == [
        128 * line["update"] for line in lines
    ]


def test_bad_input_of_rank_0_is_one_line_and_ends_all_ranks(started, tmp_path):
    log = tmp_path / "log"
    arguments = ("--log-json", log, "--listen", "192.0.2.1:1", "--updates", 1)
    processes = started.by_hand(2, *TRAIN, *arguments)
    assert [started.end(process) for process in processes] == [2, 2]
    zero, one = (started.said(process) for process in processes)
    assert zero[1].startswith("rl-train: error: cannot listen on 192.0.2.1:1")
    assert zero[1].count("\n") == 1
    assert one == ("", "")
    assert not log.exists()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_rank_without_rendezvous_is_one_line_and_status_2(rank, monkeypatch, capfd):
    port = free_address().partition(":")[2]
    variables = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["--env", "heads", "--collective-timeout", "1"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"rl-train: error: rank {rank} of 2 did not meet the others at 127.0.0.1:")
    assert err.endswith("start all ranks with torchrun, or correct MASTER_ADDR and MASTER_PORT\n")
    assert err.count("\n") == 1
