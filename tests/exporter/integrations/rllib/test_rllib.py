"""RLlib, which pins another Gymnasium: its cases and its example run beside a library folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.libraries import library_environment, library_folder
from tests.support.scraping import scrape, scrape_to_the_end

HERE = Path(__file__).parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_files=case_*.py"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment variables of a process with RLlib; what Ray keeps at home goes elsewhere."""
    folder = library_folder("ray[rllib]", HERE / "constraints.txt")
    ray = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    return {**library_environment(folder), **ray, "HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.mark.slow
def test_the_cases_hold_with_rllib(environment):
    # The warnings of Ray and of the Gymnasium that it pins are not the project's.
    command = [*PYTEST, "-o", "filterwarnings=ignore", HERE / "cases"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_the_example_trains_and_serves_its_heads(environment):
    options = ["--total-timesteps", "4096", "--listen", "127.0.0.1:0", "--run-id", "example"]
    with subprocess.Popen(
        [sys.executable, ROOT / "examples" / "rllib_multidiscrete.py", *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        shown = iter(process.stdout)
        url = next(line.split()[-1] for line in shown if line.startswith("run example:"))
        scrape(url)
        body = scrape_to_the_end(url)
        printed = "".join(shown)
    assert process.returncode == 0
    assert 'rl_training_run_state{run_id="example",state="completed"} 1' in body
    assert 'rl_training_updates_total{run_id="example"} 4.0' in body
    assert 'rl_training_environment_steps_total{run_id="example"} 4096.0' in body
    for head in ("gripper", "arm", "speed"):
        assert f'rl_policy_head_entropy_nats{{head="{head}",run_id="example"}}' in body
        assert f"{head:8} " in printed


def test_without_rllib_the_import_says_what_to_install():
    code = "import sys; sys.modules['ray'] = None; import rl_exporter.integrations.rllib"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "ImportError: rl_exporter.integrations.rllib needs RLlib; pip install 'ray[rllib]' torch"
    )
