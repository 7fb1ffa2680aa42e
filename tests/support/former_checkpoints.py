"""Checkpoints as they were written before the critic had a trunk of its own."""

import copy

from rl_training.run.checkpoint import RENAMED

UNITS = ("mean", "scale", "_moments", "_weight")


def former(state, version):
    """The state of a run with a shared critic in the format of that number, 1 or 2."""
    state = copy.deepcopy(state)
    network = {}
    for name, value in state["agent"]["network"].items():
        old, new = next((pair for pair in RENAMED.items() if name.startswith(pair[1])), ("", ""))
        network[old + name.removeprefix(new)] = value
    for name in UNITS:
        del network[f"value.{name}"]
    del state["shape"]["critic"]
    state["agent"]["network"] = network
    return state | {"format": version}
