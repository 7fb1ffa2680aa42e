"""Rollouts for several ranks, and ranks that are threads: what the trainer asks of them, without processes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import torch

from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.ranks import RankLostError
from tests.support.agents import setup

ENVIRONMENTS = 16


class ThreadRanks:
    """One of several ranks in one process; the real ones are tested with torchrun."""

    def __init__(self, rank, barrier, slots):
        self.rank, self.size = rank, barrier.parties
        self._barrier, self._slots = barrier, slots

    def gather_texts(self, text):
        try:
            self._slots[self.rank] = text
            self._barrier.wait(10)
            found = list(self._slots)
            self._barrier.wait(10)
        except threading.BrokenBarrierError:
            raise RankLostError(f"rank {self.rank} is alone") from None
        return found

    def gather(self, row):
        return torch.stack(self.gather_texts(row.clone()))

    def all_reduce(self, tensors):
        for tensor in tensors:
            tensor.data.copy_(self.gather(tensor).sum(0))

    def broadcast(self, tensors):
        for tensor in tensors:
            tensor.data.copy_(self.gather(tensor)[0])

    def watch(self, lost):
        pass

    def leave(self, *, well):
        self._barrier.abort()


def thread_ranks(size):
    barrier, slots = threading.Barrier(size), [None] * size
    return [ThreadRanks(rank, barrier, slots) for rank in range(size)]


def at_once(calls):
    """What each of the calls returns, one thread each."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def recorded_rollout():
    """One process' rollout with carried state and ended episodes.

    ``tempo`` never has a choice; ``slot`` only in the last environment, so on the last rank alone.
    """
    _, agent, collector = setup(envs=ENVIRONMENTS, arguments={"consult": "table", "noise": 2})
    collector.collect(25)
    rollout = collector.collect(25)
    slot, tempo = agent.heads.names.index("slot"), agent.heads.names.index("tempo")
    choice = rollout.choice.clone()
    choice[..., tempo] = False
    choice[:, :-1, slot] = False
    assert choice[..., slot].any()
    return replace(rollout, choice=choice, choice_share=tuple(choice.double().mean((0, 1)).tolist()))


def part_of(rollout, rank, size):
    """The rollout of one rank."""
    own = rollout.values.shape[1] // size
    here = slice(rank * own, (rank + 1) * own)
    counts = {"choice_share", "open_share", "steps", "episodes", "dependent_heads"}
    parts = {
        f.name: getattr(rollout, f.name)[:, here] for f in fields(rollout) if f.name not in {*counts, "state"}
    }
    if rollout.step_masks is rollout.decision_masks:
        parts["step_masks"] = parts["decision_masks"]
    return replace(rollout, **parts, state=tuple(half[here] for half in rollout.state))


def agent_on(ranks, **config):
    env, _, _ = setup(envs=1, arguments={"consult": "table", "noise": 2})
    return PPOAgent(env.heads, env.observation_size, PPOConfig(**{"minibatches": 4, **config}), ranks=ranks)


def parameters_of(agent):
    return torch.cat([parameter.detach().flatten() for parameter in agent.network.parameters()])
