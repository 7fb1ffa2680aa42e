"""Rank 0 carries the metrics of its run: when it is killed, the alerts say so."""

import os
import signal

import pytest

from stack.processes import Binaries, Stack, free_address
from tests.support.servers import query
from tests.support.small_runs import SMALL_UPDATES
from tests.support.torchrun import PATIENCE, Scraper, Started, ranks_of
from tests.support.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

TRAIN = ("-m", "rl_training", "--env", "heads", "--num-envs", 8, *SMALL_UPDATES, "--quiet",
         "--updates", 10**6, "--pace", 0.2)  # fmt: skip


def firing(server, alert):
    return query(server, f'ALERTS{{alertstate="firing", alertname="{alert}", run_id="ranks"}}')


def test_when_rank_0_is_killed_target_down_says_so_and_vanished_once_it_is_not_listed(prometheus, tmp_path):
    address = free_address()
    started = Started(tmp_path)
    try:
        with Stack(tmp_path / "stack", Binaries(prometheus=prometheus), faster=15) as stack:
            server = stack.prometheus
            stack.start_prometheus()
            process = started.torchrun(2, *TRAIN, "--run-id", "ranks", "--listen", address)
            entry = stack.list_target("ranks", address)
            Scraper(address).until_updates(1)
            until(lambda: query(server, 'rl_training_run_state{run_id="ranks", state="running"} == 1'))
            os.kill(ranks_of(process.pid)[0], signal.SIGKILL)
            assert started.end(process) != 0
            until(lambda: firing(server, "RLTrainingTargetDown"), PATIENCE)
            assert query(server, 'last_over_time(rl_training_run_state{state="failed"}[1h]) == 1') == []
            assert firing(server, "RLTrainingVanished") == []
            entry.unlink()
            until(lambda: firing(server, "RLTrainingVanished"), PATIENCE)
    finally:
        started.close()
