"""The example runs as its docstring says, without torch, and its heads learn what the observations ask for."""

import subprocess
import sys

from tests.support import ROOT
from tests.support.scraping import scrape, scrape_to_the_end

EXAMPLE = ROOT / "examples/numpy_loop.py"


def test_the_example_trains_and_serves_its_heads():
    alone = (
        f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    options = ["--total-timesteps", "20480", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", alone, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().strip()
        assert url.endswith("/metrics"), process.stderr.read()
        scrape(url)
        body = scrape_to_the_end(url)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.startswith("run '")
    assert "completed" in errors
    assert errors.count("\n") == 1  # whom it waits for, and nothing else
    assert "rl_training_updates_total" in body
    for head in ("gripper", "arm"):
        assert f'rl_policy_head_state_information_nats{{head="{head}"' in body
        assert f'rl_policy_head_gradient_norm{{head="{head}"' in body
        assert f'rl_policy_head_advantage_margin_ratio{{head="{head}"' in body
    assert [line.split()[0] for line in printed.splitlines()] == ["gripper", "arm"]


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 40
