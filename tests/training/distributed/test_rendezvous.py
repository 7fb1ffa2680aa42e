"""How ranks meet, and that what they cannot do together is refused in one line."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rl_training.config import BadInputError, OutputConfig, RunConfig, Settings
from rl_training.distributed.assignment import RankAssignment, RendezvousError, rank_assignment
from rl_training.distributed.process_group import backend_of
from rl_training.distributed.rendezvous import (
    SaidElsewhereError,
    device_of,
    failing_together,
    require_same,
    require_shareable,
)
from rl_training.run.job import usable_device
from tests.support.ranks import at_once, thread_ranks

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def test_the_place_is_that_of_torchrun():
    assert rank_assignment({}) == RankAssignment()
    assert rank_assignment(TORCHRUN) == RankAssignment(1, 4, 1, ("127.0.0.1", 1))
    assert rank_assignment({"RANK": "0", "WORLD_SIZE": "1"}) == RankAssignment()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"WORLD_SIZE": None}, "WORLD_SIZE is not set, but other variables of a rank are"),
        ({"RANK": None}, "RANK is not set"),
        ({"RANK": "one"}, "RANK is 'one', which is no number"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "4"}, "RANK 4 is not below WORLD_SIZE 4"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set, .* start all ranks with torchrun, or unset them"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http', which is no number"),
    ],
)
def test_a_rank_without_rendezvous_is_refused(changed, reason):
    environment = {key: value for key, value in (TORCHRUN | changed).items() if value is not None}
    with pytest.raises(RendezvousError, match=reason):
        rank_assignment(environment)


def settings(**given):
    outputs = {"tui", "record_rollouts"} & given.keys()
    run = {key: value for key, value in given.items() if key not in outputs}
    return Settings(run=RunConfig(**run), output=OutputConfig(**{key: given[key] for key in outputs}))


@pytest.mark.parametrize(
    ("given", "size", "reason"),
    [
        ({"num_envs": 30}, 4, r"--num-envs 30 does not give each of 4 ranks .* give a multiple of 32"),
        ({"num_envs": 8}, 4, "give a multiple of 32"),
        ({"tui": True}, 2, "--tui is for a run of one process, not for 2 ranks; leave it out"),
        ({"record_rollouts": "x.npz"}, 2, "--record-rollouts is for a run of one process"),
    ],
)
def test_what_ranks_cannot_share_is_refused(given, size, reason):
    require_shareable(settings(**given), 1)
    with pytest.raises(BadInputError, match=reason):
        require_shareable(settings(**given), size)


def test_each_rank_of_a_machine_takes_the_gpu_of_its_number():
    assert device_of("cuda", RankAssignment(5, 8, 1)) == "cuda:1"
    assert device_of("cuda:3", RankAssignment()) == "cuda:3"
    assert device_of("cpu", RankAssignment(5, 8, 1)) == "cpu"
    with pytest.raises(BadInputError, match="'cuda:3' would serve all 8 ranks"):
        device_of("cuda:3", RankAssignment(5, 8, 1))


def test_a_rank_without_a_gpu_of_its_own_hears_how_many_there_are(monkeypatch):
    """What torch says of an ordinal that is out of range goes on for lines about debugging."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def zeros(*_, device):
        raise RuntimeError(f"CUDA error: invalid device ordinal\nfor {device}, pass CUDA_LAUNCH_BLOCKING=1")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(BadInputError) as refused:
        usable_device("cuda:1")
    assert str(refused.value) == (
        "--device 'cuda:1' is not there: CUDA error: invalid device ordinal; "
        "GPUs here: 1, one for each rank; start fewer ranks, name one of them, or give --device cpu"
    )
    with pytest.raises(BadInputError, match="ordinal; give --device cpu"):
        usable_device("meta")


def test_gpus_talk_over_nccl_and_hosts_over_gloo():
    assert backend_of(torch.device("cpu")) == "gloo"
    assert backend_of(torch.device("cuda", 1)) == "cpu:gloo,cuda:nccl"


def outcome(call):
    try:
        call()
    except BadInputError as error:
        return error
    return None


def test_bad_input_on_one_rank_is_bad_input_on_all_and_one_says_it():
    def check(ranks):
        with failing_together(ranks):
            if ranks.rank == 1:
                raise BadInputError("no such disk")

    zero, one, two = at_once([partial(outcome, partial(check, ranks)) for ranks in thread_ranks(3)])
    assert str(zero) == "rank 1: no such disk"
    assert isinstance(one, SaidElsewhereError)
    assert isinstance(two, SaidElsewhereError)


def test_ranks_with_other_settings_are_refused():
    given = [settings(), settings(seed=1)]
    calls = [
        partial(outcome, partial(require_same, *pair)) for pair in zip(given, thread_ranks(2), strict=True)
    ]
    assert ["rank 1 has other settings" in str(found) for found in at_once(calls)] == [True, True]
    same = [partial(outcome, partial(require_same, settings(), ranks)) for ranks in thread_ranks(2)]
    assert at_once(same) == [None, None]


class Ordered(set):
    """A set with an order of its own, as another process has one."""

    def __init__(self, items):
        super().__init__(items)
        self._items = items

    def __iter__(self):
        return iter(self._items)

    def __repr__(self):
        return f"{{{', '.join(map(repr, self._items))}}}"


def test_a_set_is_the_same_in_whatever_order_a_rank_has_it():
    def compared(*sets):
        given = [replace(settings(), environment={"kinds": [found]}) for found in sets]
        return at_once(
            [
                partial(outcome, partial(require_same, *pair))
                for pair in zip(given, thread_ranks(2), strict=True)
            ]
        )

    assert compared(Ordered(["a", "b"]), Ordered(["b", "a"])) == [None, None]
    assert all("other settings" in str(found) for found in compared({"a", "b"}, {"a", "c"}))
