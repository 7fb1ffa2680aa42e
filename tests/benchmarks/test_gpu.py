"""The benchmark on a GPU: ratios of one turn, and one line where there is none."""

import subprocess
import sys

import pytest
import torch

from benchmarks import gpu
from benchmarks.trainer_speed.setting import Setting
from tests.support import ROOT

SMALL = gpu.Case(Setting(8, environments=4, rollout_steps=4, epochs=2, minibatches=2), gpu.EVERY)


@pytest.fixture
def _a_gpu_that_is_the_cpu(monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(gpu, "GPU", gpu.CPU)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")


@pytest.mark.usefixtures("_a_gpu_that_is_the_cpu")
def test_each_trainer_has_a_row_with_its_ratios():
    with torch.random.fork_rng(devices=[]):  # Stable-Baselines3 seeds the generators of the whole process
        found = gpu.seconds(SMALL, turns=2)
    assert {name: len(turns) for name, turns in found.items()} == dict.fromkeys(gpu.EVERY, 2)
    rows = [line for line in gpu.report([(SMALL, found)]).splitlines() if line.startswith("| 8 | 4 |")]
    assert len(rows) == len(gpu.EVERY)


@pytest.mark.usefixtures("_a_gpu_that_is_the_cpu")
def test_a_ratio_is_of_one_turn():
    """The second turn was twice as slow for both."""
    case = gpu.Case(Setting(512), (gpu.ON_GPU, gpu.ON_CPU))
    table = gpu.report([(case, {gpu.ON_GPU: [1.0, 2.0, 1.0], gpu.ON_CPU: [4.0, 8.0, 2.0]})])
    assert "_Some GPU, torch " in table
    assert "| 512 | 32 | `rl-train` | 256 | 4,000 ms | 0.25 (0.25 to 0.50) |" in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(
        "error: torch finds no GPU here; run this on a machine with one"
    )


def test_the_page_has_a_place_for_the_table():
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert gpu.replaced(page, gpu.BEGIN, gpu.END, "").count(gpu.BEGIN + gpu.END) == 1
