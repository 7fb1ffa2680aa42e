"""However a program leaves, its run ends with the state that is true of it, and its entry disappears."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

import rl_exporter
from rl_exporter import RunState
from rl_exporter.leaving import left_by_interpreter


def sigterm_then(leave):
    """The idiom of job scripts: a handler of SIGTERM that leaves the program."""
    former = signal.signal(signal.SIGTERM, lambda *_: leave())
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    finally:
        signal.signal(signal.SIGTERM, former)


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("leave", "state"),
    [
        (lambda: None, RunState.COMPLETED),
        (sys.exit, RunState.COMPLETED),
        (lambda: sys.exit(0), RunState.COMPLETED),
        (lambda: sigterm_then(lambda: sys.exit(0)), RunState.COMPLETED),
        (lambda: sigterm_then(lambda: sys.exit(128 + signal.SIGTERM)), RunState.INTERRUPTED),
        (lambda: sys.exit(130), RunState.INTERRUPTED),
        (lambda: raising(KeyboardInterrupt), RunState.INTERRUPTED),
        (lambda: raising(GeneratorExit), RunState.INTERRUPTED),
        (lambda: sys.exit(1), RunState.FAILED),
        (lambda: sys.exit(128 + signal.SIGSEGV), RunState.FAILED),
        (lambda: sys.exit("no such data set"), RunState.FAILED),
        (lambda: raising(RuntimeError), RunState.FAILED),
        (lambda: raising(MemoryError), RunState.FAILED),
        (lambda: raising(BaseExceptionGroup("tasks", [KeyboardInterrupt()])), RunState.INTERRUPTED),
        (lambda: raising(BaseExceptionGroup("tasks", [KeyboardInterrupt(), ValueError()])), RunState.FAILED),
    ],
)
def test_the_block_ends_the_run_as_it_was_left(leave, state):
    recorder = rl_exporter.serve({"arm": 2}, listen="127.0.0.1:0", linger=0)
    with suppress(BaseException), recorder:
        recorder.record(entropy={"arm": 0.5})
        leave()
    assert recorder.snapshot().run_state is state


NEVER_CLOSED = """
import atexit, sys, types
import rl_exporter
atexit.register(lambda: print(heads.snapshot().run_state))  # runs after the functions that were registered later
heads = rl_exporter.serve({{"arm": 2}}, run_id="open", listen="127.0.0.1:0", linger=5, register=rl_exporter.Discovery({folder!r}))
heads._server.scrapers.scraped(("prometheus", ""), types.SimpleNamespace(is_open=True), final=False)
heads._server.scrapers.wait = lambda seconds: print("waits", seconds)
heads.record(entropy={{"arm": 0.5}})
{leave}
"""


@pytest.mark.parametrize(
    ("leave", "state"),
    [
        ("", "completed"),
        ("sys.exit(0)", "completed"),
        ("raise RuntimeError", "failed"),
        ("raise KeyboardInterrupt", "interrupted"),
        ("heads.close(rl_exporter.RunState.INTERRUPTED)", "interrupted"),
    ],
)
def test_a_run_that_nobody_closes_ends_with_the_interpreter(leave, state, tmp_path):
    program = NEVER_CLOSED.format(folder=str(tmp_path), leave=leave)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == f"waits 5\n{state}\n", done.stderr
    assert "atexit" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_session_ended_one_input_and_not_the_program(monkeypatch):
    monkeypatch.setattr(sys, "last_value", RuntimeError("typed by hand"), raising=False)
    assert left_by_interpreter() is RunState.FAILED
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert left_by_interpreter() is RunState.COMPLETED


def test_a_closed_run_leaves_nothing_for_the_interpreter_to_hold():
    import gc
    import weakref

    recorder = rl_exporter.serve({"arm": 2}, listen="127.0.0.1:0", linger=0)
    recorder.close()
    held = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert held() is None


LEAVING_ENVIRONMENT = """
import sys
import gymnasium
import numpy as np
from rl_training.run.cli import main

class Leaving(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])
    def reset(self, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {{}}
    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            sys.exit({status})
        return np.zeros(2, np.float32), 0.0, False, False, {{}}

gymnasium.register("Leaving-v0", Leaving)
sys.exit(main("--env Leaving-v0 --num-envs 1 --rollout-steps 16 --updates 9 --listen 127.0.0.1:0 --linger 0".split()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("status", "state", "exit_status"), [(0, "interrupted", 0), (3, "failed", 1)])
def test_an_environment_that_leaves_the_program_ends_the_run_in_order(status, state, exit_status):
    program = LEAVING_ENVIRONMENT.format(status=status)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == exit_status
    assert done.stdout.rstrip().endswith(state)
    assert f"something in the training called sys.exit({status})" in done.stderr
