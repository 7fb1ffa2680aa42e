"""Many trainers at once: processes forked from one that has loaded torch already, which takes seconds each time."""

import multiprocessing
import sys


def train(arguments):
    """The body of a process: what the console script does."""
    from rl_training.run.cli import main

    sys.exit(main(arguments))


def start(*arguments):
    """A process that runs ``rl-train`` with these arguments."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rl_training.run.app", "rl_training.environments.heads.environment"])
    process = context.Process(target=train, args=([str(argument) for argument in arguments],))
    process.start()
    return process
