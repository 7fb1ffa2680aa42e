"""How a run with HeadEntropyCallback of TRL starts and ends."""

import os
import re
import subprocess
import sys
import urllib.request
from functools import partial

import pytest
import torch

import rl_exporter
from rl_exporter import RunState
from tests.exporter.integrations.trl.learning import learn, local
from tests.support import ROOT, tiny_language
from tests.support.tiny_language import VOCABULARY, even_words

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


def program_options():
    """A program finds the tests, and computes with one thread."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}}


def raising(error, call):
    """A reward function that raises at its ``call``-th call."""
    calls = []

    def reward(completions, **_):
        calls.append(len(completions))
        if len(calls) == call:
            raise error("in a reward function")
        return [0.0] * len(completions)

    return reward


def test_train_completes_the_run_and_says_what_it_is(model):
    callback = local()
    learn(model, callback)
    snapshot = callback.recorder.snapshot()
    (head,) = snapshot.tamiyo.heads
    assert (head.name, head.choices, head.reference) == ("token", VOCABULARY, "start")
    assert (head.thresholds.warning, head.thresholds.critical) == (0.25, 0.1)
    assert (snapshot.run.algorithm, snapshot.run.seed, snapshot.run.device) == ("GRPO", "3", "cpu")
    assert (snapshot.run_state, snapshot.tamiyo.updates, snapshot.record_errors) == (RunState.COMPLETED, 2, 0)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(callback.recorder.url, timeout=10)


def test_a_block_spans_every_train(model):
    with local() as callback:
        for _ in range(2):
            learn(model, callback)
        running = callback.recorder.snapshot()
    assert (running.run_state, running.tamiyo.updates) == (RunState.RUNNING, 4)
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("error", "state"), [(RuntimeError, RunState.FAILED), (KeyboardInterrupt, RunState.INTERRUPTED)]
)
def test_a_block_tells_how_the_run_ended(model, error, state):
    with pytest.raises(error), local() as callback:
        learn(model, callback, rewards=[raising(error, 2)])
    snapshot = callback.recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (state, 1)


PROGRAM = """
import atexit, sys
from transformers import TrainerCallback
from rl_exporter.integrations.trl import HeadEntropyCallback
from tests.support import tiny_language

class Error(TrainerCallback):
    def on_step_end(self, *_, **__):
        raise RuntimeError("in a callback")

callback = HeadEntropyCallback("test", listen="127.0.0.1:0", linger=0)
# Registered before the run, so called after its end.
atexit.register(lambda: print(callback.recorder.snapshot().run_state.value, flush=True))
try:
    tiny_language.supervised(sys.argv[1], [callback, Error()]).train()
except RuntimeError:
    if sys.argv[2] == "failed":
        raise
"""


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_without_a_block_the_end_of_the_program_ends_the_run(model, state):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, model, state],
        check=False,
        capture_output=True,
        text=True,
        **program_options(),
    )
    assert (result.stdout.splitlines()[-1], result.returncode) == (state, state == "failed"), result.stderr


def test_without_a_block_the_next_train_takes_over_after_an_error(model):
    callback = local()
    with pytest.raises(RuntimeError):
        learn(model, callback, rewards=[raising(RuntimeError, 1)])
    assert callback.recorder.snapshot().run_state is RunState.RUNNING
    learn(model, callback)
    snapshot = callback.recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.COMPLETED, 2)


def test_the_callback_of_the_cell_that_runs_again_replaces_the_former_one(model):
    former, again = local(), local()
    with pytest.raises(KeyboardInterrupt):
        learn(model, former, rewards=[raising(KeyboardInterrupt, 2)])
    learn(model, again)
    assert former.recorder.closed
    snapshot = again.recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.COMPLETED, 3)
    learn(model, former)  # it serves anew
    snapshot = former.recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.COMPLETED, 2)


def test_what_does_not_fit_is_refused_before_training(model):
    with rl_exporter.serve({"token": VOCABULARY + 1}, listen="127.0.0.1:0", linger=0) as other:
        refused = [
            (partial(local, listen=other.url.removeprefix("http://")), OSError, "port is in use"),
            (partial(local, listen="nowhere"), ValueError, "HOST:PORT"),
            (partial(local, thresholds=(0.1, 0.2)), ValueError, "critical threshold 0.2 above"),
            (partial(own, other), ValueError, "has 51 choices, the model's vocabulary 50"),
        ]
        for make, error, reason in refused:
            trainer = tiny_language.trainer(model, [make()])
            with pytest.raises(error, match=reason):
                trainer.train()
            assert trainer.state.global_step == 0
        with pytest.raises(ValueError, match="give either a recorder"):
            local(recorder=other)
        with pytest.raises(ValueError, match="no URL of a webhook"):
            tiny_language.trainer(model, [local(notify="nowhere")]).train()
    with (
        rl_exporter.serve({"arm": 2}, listen="127.0.0.1:0", linger=0) as other,
        pytest.raises(ValueError, match="unknown head 'token'"),
    ):
        learn(model, own(other))


def own(recorder):
    from rl_exporter.integrations.trl import HeadEntropyCallback

    return HeadEntropyCallback(recorder=recorder)


def test_a_recorder_of_your_own_goes_on(model):
    with rl_exporter.serve({"arm": 2, "token": VOCABULARY}, listen="127.0.0.1:0", linger=0) as recorder:
        learn(model, own(recorder))
        snapshot = recorder.snapshot()
    assert (snapshot.run_state, snapshot.tamiyo.updates) == (RunState.RUNNING, 2)
    assert snapshot.tamiyo.readings["token"].measured


def test_the_documented_lines_run(model, monkeypatch):
    from transformers import AutoTokenizer
    from trl import GRPOTrainer

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/trl.md").read_text(), re.DOTALL)
    assert code.count('"math-7"') == 1
    made = tiny_language.trainer(model, [], max_steps=1)
    names = {
        "GRPOTrainer": partial(GRPOTrainer, processing_class=AutoTokenizer.from_pretrained(model)),
        "model": made.model, "rewards": [even_words], "config": made.args, "dataset": made.train_dataset,
    }  # fmt: skip
    exec(code.replace('"math-7"', '"math-7", listen="127.0.0.1:0"'), names)
    (callback,) = [one for one in names["trainer"].callback_handler.callbacks if hasattr(one, "recorder")]
    snapshot = callback.recorder.snapshot()
    assert (snapshot.run.run_id, snapshot.run_state, snapshot.tamiyo.updates) == (
        "math-7",
        RunState.COMPLETED,
        1,
    )


def test_no_model_with_a_vocabulary_is_refused():
    from rl_exporter.integrations.trl.callback import vocabulary_size

    with pytest.raises(ValueError, match="the config of Linear has vocab_size None; give a language model"):
        vocabulary_size(torch.nn.Linear(1, 1))


def test_without_trl_the_import_says_what_to_install():
    program = "import sys\nsys.modules['transformers'] = None\nimport rl_exporter.integrations.trl"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.endswith("ImportError: rl_exporter.integrations.trl needs TRL; pip install trl\n")


TWO = """
import os, pathlib, sys, torch
torch.set_num_threads(1)
from rl_exporter.integrations.trl import HeadEntropyCallback
from tests.support import tiny_language

callback = HeadEntropyCallback("test", listen="127.0.0.1:0", linger=0)
trainer = tiny_language.trainer(sys.argv[1], [callback], max_steps=2)
trainer.train()
rank = os.environ["RANK"]
said = pathlib.Path(sys.argv[2], rank)  # lines of two processes may mix
if rank == "0":
    snapshot = callback.recorder.snapshot()
    entropy = trainer.state.log_history[-2]["entropy"]
    assert snapshot.tamiyo.readings["token"].entropy == entropy
    said.write_text(f"{snapshot.run.world_size} {snapshot.tamiyo.updates} {snapshot.episodes} {snapshot.run_state}")
else:
    try:
        callback.recorder
    except RuntimeError as error:
        said.write_text(str(error))
"""


def test_of_two_processes_the_first_one_serves(model, tmp_path):
    program = tmp_path / "two.py"
    program.write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launch, program, model, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        **program_options(),
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "0").read_text() == "2 2 16 completed"
    assert (
        tmp_path / "1"
    ).read_text() == "nothing is served; train() starts the run, in the first process alone"
