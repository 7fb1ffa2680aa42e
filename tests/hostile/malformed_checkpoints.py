"""Checkpoints that no run would write: each kind, and how it is made from one that a run has written."""

import copy
import os
import pickle
import random

import torch

from rl_training.run.checkpoint_file import write_state


def rewritten(**changes):
    """The state with other values, and with a checksum that fits: somebody made it."""

    def make(path, content, state):
        write_state(path, copy.deepcopy(state) | changes)

    return make


def inside(part, **changes):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        changed[part] |= changes
        write_state(path, changed)

    return make


def memory(**windows):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        changed["memories"]["op"] |= windows
        write_state(path, changed)

    return make


def without(*keys):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        owner = changed
        for key in keys[:-1]:
            owner = owner[key]
        del owner[keys[-1]]
        write_state(path, changed)

    return make


def moments(change):
    def make(path, content, state):
        changed = copy.deepcopy(state)
        change(changed["agent"]["optimizer"])
        write_state(path, changed)

    return make


def raw(make):
    return lambda path, content, state: path.write_bytes(make(content))


def saved(value):
    return lambda path, content, state: write_state(path, value)


class Mischief:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def wrong_size(optimizer):
    optimizer["state"][0]["exp_avg"] = torch.zeros(3)


def too_many(optimizer):
    optimizer["state"][10_000] = {"exp_avg": torch.zeros(3)}


def other_groups(optimizer):
    optimizer["param_groups"] = []


def no_mapping(optimizer):
    optimizer["state"] = [1, 2]


def directory(path, content, state):
    path.mkdir()


def pipe(path, content, state):
    os.mkfifo(path)


def loop(path, content, state):
    path.symlink_to(path)


def link_to(target):
    return lambda path, content, state: path.symlink_to(target)


def huge(path, content, state):
    with path.open("wb") as file:
        file.truncate(2**40)


def bare_pickle(path, content, state):
    path.write_bytes(pickle.dumps(state["progress"]))


def mischief_of_format_1(path, content, state):
    torch.save({"format": Mischief()}, path)


MALFORMED = {
    "empty": raw(lambda content: b""),
    "one byte": raw(lambda content: content[:1]),
    "the first line alone": raw(lambda content: content[:22]),
    "half the checksum": raw(lambda content: content[:50]),
    "no state": raw(lambda content: content[:87]),
    "cut in the middle": raw(lambda content: content[: len(content) // 2]),
    "cut by a byte": raw(lambda content: content[:-1]),
    "a byte more": raw(lambda content: content + b"\0"),
    "two in one": raw(lambda content: content + content),
    "capital checksum": raw(lambda content: content[:22] + content[22:87].upper() + content[87:]),
    "text": raw(lambda content: b"this is no checkpoint\n" * 100),
    "zeros": raw(lambda content: bytes(len(content))),
    "noise": raw(lambda content: random.Random(0).randbytes(10_000)),
    "an empty archive": raw(lambda content: b"PK\5\6" + bytes(18)),
    "half an archive": raw(lambda content: content[87 : len(content) // 2]),
    "a pickle": bare_pickle,
    "code": saved({"format": Mischief()}),
    "code of format 1": mischief_of_format_1,
    "a tensor": saved(torch.zeros(3)),
    "a list": saved([1, 2]),
    "a text": saved("format 2"),
    "nothing in it": saved({}),
    "another format": rewritten(format=4),
    "a format that is none": rewritten(format={"format": 2}),
    "no shape": without("shape"),
    "a shape that is none": rewritten(shape=7),
    "heads that are none": rewritten(shape={"heads": [[1, [2]], "x"], "observation_size": 1, "hidden": 1}),
    "no agent": without("agent"),
    "an agent that is none": rewritten(agent=[]),
    "no parameters": without("agent", "network"),
    "a parameter less": without("agent", "network", "actor.encoder.weight"),
    "parameters of another size": inside("agent", network={"actor.encoder.weight": torch.zeros(2, 2)}),
    "no optimizer": without("agent", "optimizer"),
    "an optimizer of another size": moments(wrong_size),
    "an optimizer of more": moments(too_many),
    "an optimizer of other groups": moments(other_groups),
    "an optimizer of no mapping": moments(no_mapping),
    "a generator that is none": inside("agent", shuffle="{"),
    "a generator of another kind": inside("agent", shuffle='{"bit_generator": "MT19937"}'),
    "advantage sums of another size": inside("agent", advantage_sums=torch.zeros(3, 1)),
    "an advantage scale of another size": inside("agent", advantage_scale=torch.zeros(3)),
    "an advantage scale that is none": inside("agent", advantage_scale="1"),
    "no progress": without("progress"),
    "no episodes": inside("progress", episodes=[]),
    "episodes that are none": inside("progress", episodes=["many"]),
    "negative episodes": inside("progress", episodes=[-1, 2]),
    "more episodes than a number holds": inside("progress", episodes=[10**30, 1]),
    "returns that are none": inside("progress", returns=["high"]),
    "lengths that are none": inside("progress", lengths=["long"]),
    "negative lengths": inside("progress", lengths=[-1]),
    "reports that are none": inside("progress", metrics=["good"]),
    "reports of other names": inside("progress", metrics=[{"Bad Name": 1.0}]),
    "reports of texts": inside("progress", metrics=[{"x": "much"}]),
    "no metrics": without("metrics"),
    "metrics that are none": rewritten(metrics="up 1\n"),
    "metrics that are no text": rewritten(metrics=[1]),
    "metrics of other heads": lambda path, content, state: write_state(
        path, state | {"metrics": state["metrics"].replace('head="op"', 'head="po"')}
    ),
    "no memories": rewritten(memories=[1]),
    "a memory that lacks a window": rewritten(memories={"op": {}}),
    "a memory of texts": memory(ratios=["low"]),
    "a memory of more updates": memory(first=[1.0] * 11),
    "a memory of halves": memory(streaks=[0.5]),
    "a memory whose windows do not fit": memory(updates=[1, 2], ratios=[0.5]),
    "a memory without order": memory(updates=[2, 1], ratios=[0.5, 0.5]),
    "a memory that is not finite": memory(nats=[float("nan")], uncertain=[1.0]),
    "a folder": directory,
    "a pipe": pipe,
    "a link to itself": loop,
    "a link to nothing": link_to("nothing"),
    "an endless device": link_to("/dev/zero"),
    "a terminal": link_to("/dev/ptmx"),
    "a terabyte of nothing": huge,
}
