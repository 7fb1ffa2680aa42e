"""Run by torchrun: one update of a recorded rollout, each rank with its part; rank 0 writes what came of it."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from rl_training.distributed.assignment import rank_assignment
from rl_training.distributed.failure_detector import FailureDetector
from rl_training.distributed.process_group import joined_group
from tests.support.ranks import agent_on, parameters_of, part_of

CASES = {"whole": {}, "early stop": {"target_kl": 1e-5, "learning_rate": 3e-3}, "not finite": {}}


def results(ranks, recorded):
    for name, config in CASES.items():
        agent = agent_on(ranks, **config)
        result = agent._update_network(part_of(recorded[name], ranks.rank, ranks.size))
        yield name, (parameters_of(agent), result)


def outwait(ranks):
    """Ranks that work longer than the timeout of an exchange are not lost."""
    lost = []
    peers = FailureDetector(ranks.rank, ranks.size, timedelta(seconds=3))
    peers.watch(lost.append)
    time.sleep(4)
    peers.end()
    ranks.gather(torch.zeros(1))
    peers.leave()
    assert lost == []


def main(folder):
    torch.set_num_threads(1)
    recorded = torch.load(folder / "rollouts.pt", weights_only=False)
    place = rank_assignment(os.environ)
    with joined_group(place, torch.device("cpu"), 60) as ranks:
        found = dict(results(ranks, recorded))
        everywhere = ranks.gather(found["whole"][0])
        assert (everywhere == everywhere[0]).all(), "ranks differ"
        if ranks.size == 2:
            outwait(ranks)
        if ranks.rank == 0:
            torch.save((ranks.size, found), folder / f"found-{ranks.size}.pt")
        ranks.leave(well=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
