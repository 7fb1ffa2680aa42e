"""The examples run as their docstrings say, and /metrics shows their heads."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.scraping import scrape, scrape_to_the_end

EXAMPLES = ROOT / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sb3_multidiscrete", "cleanrl_style"])
def test_an_example_trains_and_serves_its_heads(name):
    options = ["--total-timesteps", "4096", "--listen", "127.0.0.1:0", "--run-id", "example"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().split()[-1]
        assert url.endswith("/metrics"), process.stderr.read()
        scrape(url)
        body = scrape_to_the_end(url)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    # One line, about this test: it is the scraper for whom the run waits.
    assert re.fullmatch(r"run 'example' completed; waits .* Python-urllib/.* Ctrl-C skips the wait\n", errors)
    assert 'rl_training_run_state{run_id="example",state="completed"} 1' in body
    assert 'rl_training_updates_total{run_id="example"} 4.0' in body
    assert 'rl_training_environment_steps_total{run_id="example"} 4096.0' in body
    assert 'rl_policy_loss{run_id="example"}' in body
    for head in ("gripper", "arm", "speed"):
        entropy = body.split(f'rl_policy_head_entropy_nats{{head="{head}",run_id="example"}} ')[1].split("\n")[
            0
        ]
        assert f"{head:8} {float(entropy):.3f} nats" in printed
    if name == "cleanrl_style":  # the largest object of four leaves one speed
        (share,) = re.findall(r'rl_policy_head_choice_steps_ratio{head="speed",run_id="example"} (.*)', body)
        assert 0.6 < float(share) < 0.9


@pytest.mark.slow
def test_the_example_of_trl_trains_and_serves_its_tokens(tmp_path):
    options = ["--total-timesteps", "512", "--listen", "127.0.0.1:0", "--run-id", "example"]
    with subprocess.Popen(
        # TRL 1.16 uses options that transformers 5.24 calls deprecated.
        [sys.executable, "-W", "error", "-W", "ignore::FutureWarning", EXAMPLES / "trl_grpo.py", *options],
        cwd=tmp_path, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().split()[-1]
        scrape(url)
        body = scrape_to_the_end(url)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert 'rl_training_run_state{run_id="example",state="completed"} 1' in body
    assert 'rl_training_updates_total{run_id="example"} 4.0' in body
    assert 'rl_training_episodes_total{run_id="example"} 64.0' in body
    (entropy,) = re.findall(r'rl_policy_head_entropy_nats{head="token",run_id="example"} (.*)', body)
    assert f"token {float(entropy):.3f} nats" in printed


def test_each_correct_head_of_the_environment_earns_a_third(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from picking import BINS, SIZES, Picking

    environment = Picking()
    observation, _ = environment.reset(seed=1)
    for wrong in range(4):
        size, box = observation[:SIZES].argmax(), observation[SIZES:].argmax()
        masks = environment.action_masks()
        assert masks.shape == (sum(environment.action_space.nvec),)
        assert masks[size], "the right gripper is valid"
        assert masks[SIZES + box], "the right bin is open"
        assert list(masks[-3:]) == [True, size < SIZES - 1, size < SIZES - 1]
        action = [(size + (wrong > 0)) % SIZES, (box + (wrong > 1)) % BINS, int(wrong > 2)]
        observation, reward, *_ = environment.step(np.array(action))
        assert reward == pytest.approx(1 - wrong / 3)


def test_an_integration_takes_forty_lines():
    for name in ("trl_grpo",):
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrl_composite", "torchrl_controller", "skrl_multicategorical"])
def test_a_short_example_of_a_library(name, tmp_path):
    lines = 55 if name == "torchrl_controller" else 40
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= lines
    options = ["--total-timesteps", "4096", "--listen", "127.0.0.1:0", "--run-id", "example"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *options], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        url = process.stdout.readline().split()[-1]
        assert url.endswith("/metrics"), process.stderr.read()
        scrape(url)
        body = scrape_to_the_end(url)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, "telemetry failed" in errors) == (0, False)
    assert 'rl_training_run_state{run_id="example",state="completed"} 1' in body
    assert 'rl_training_updates_total{run_id="example"} 4.0' in body
    assert 'rl_training_environment_steps_total{run_id="example"} 4096.0' in body
    assert "rl_exporter_record_errors_total 0.0" in body
    for metric in ("rl_policy_loss", "rl_policy_kl_divergence_nats", "rl_training_episode_return"):
        assert f'{metric}{{run_id="example"}}' in body
    for head in ("gripper", "arm", "speed"):
        assert f'rl_policy_head_entropy_nats{{head="{head}",run_id="example"}}' in body


def test_the_examples_say_how_to_run_them():
    for path in EXAMPLES.glob("*.py"):
        if "__main__" in path.read_text():
            length = "--trials" if path.stem.endswith("_sweep") else "--total-timesteps"
            assert f"python examples/{path.name} {length}" in path.read_text()
