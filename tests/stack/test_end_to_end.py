"""A real trainer, scraped by a real Prometheus, compared with the trainer's own log."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from rl_training.action_space import HEAD_NAMES
from stack.processes import free_address
from tests.support.servers import get, query
from tests.support.small_runs import SMALL_UPDATES, lines_so_far
from tests.support.waiting import until

pytestmark = pytest.mark.stack


@pytest.fixture
def start():
    processes = []

    def run(*command):
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


ENVIRONMENTS = {
    "heads": (
        *("--env", "heads", "--env-arg", "consult=table", "--rollout-steps", 64),
        *(*SMALL_UPDATES, "--pace", 0.2),
    ),
    "default": ("--num-envs", 8, "--env-arg", "samples=64", "--env-arg", "plateau_epochs=5", "--pace", 0.2),
}


@pytest.fixture(params=ENVIRONMENTS)
def trainer(request, start, tmp_path):
    listen, log = free_address(), tmp_path / "updates.jsonl"
    process = start(
        *(sys.executable, "-m", "rl_training", *ENVIRONMENTS[request.param], "--updates", 100000),
        *("--run-id", "e2e", "--listen", listen, "--log-json", log, "--quiet", "--linger", 30),
    )
    return process, listen, log


@pytest.fixture
def ask(start, prometheus, trainer, tmp_path):
    """Ask the Prometheus that scrapes the trainer."""
    address = free_address()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        f"scrape_configs: [{{job_name: rl, static_configs: [{{targets: ['{trainer[1]}']}}]}}]\n"
    )
    start(
        prometheus,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    )
    return partial(query, address)


def test_prometheus_scrapes_what_the_trainer_logged(trainer, ask):
    process, _, log = trainer
    until(lambda: len(ask("rl_policy_head_entropy_nats")) == 8)

    # One instant query gives values and update number of the same scrape.
    names = "rl_policy_head_entropy_nats|rl_policy_head_choice_entropy_ratio|rl_training_updates_total"
    result = ask(f'{{__name__=~"{names}", run_id="e2e"}}')
    update = next(int(r["value"][1]) for r in result if r["metric"]["__name__"] == "rl_training_updates_total")
    # /metrics shows an update just before its line is in the log.
    logged = until(lambda: lines_so_far(log)[update - 1 :])[0]
    assert logged["update"] == update
    compared = set()
    for row in result:
        name, head = row["metric"]["__name__"], row["metric"].get("head")
        if head:
            assert float(row["value"][1]) == pytest.approx(logged[name][head], abs=1e-6)
            compared.add((name, head))
    assert {head for name, head in compared if name == "rl_policy_head_entropy_nats"} == set(HEAD_NAMES)

    process.send_signal(signal.SIGTERM)
    until(lambda: ask('last_over_time(rl_training_run_state{state="interrupted"}[1h]) == 1'))
    assert process.wait(timeout=60) == 0


def test_no_head_sample_before_the_first_update(start):
    listen = free_address()
    process = start(
        *(
            sys.executable,
            "-m",
            "rl_training",
            "--env",
            "heads",
            "--rollout-steps",
            100000,
            "--listen",
            listen,
            "--quiet",
        ),
        *("--updates", 1, "--linger", 0),
    )
    text = until(lambda: get(f"http://{listen}/metrics"))
    assert process.poll() is None
    assert "rl_policy_head_entropy_max_nats{" in text
    assert "rl_policy_head_entropy_nats{" not in text
    assert "rl_policy_head_entropy_normalized_ratio{" not in text


def test_promtool_accepts_every_metric(start, promtool):
    listen = free_address()
    start(
        sys.executable, "-m", "rl_training", "--env", "heads", "--listen", listen, "--quiet", "--updates", 10**6
    )
    until(lambda: get(f"http://{listen}/-/ready"))
    text = get(f"http://{listen}/metrics")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    broken = text.replace("# HELP rl_policy_loss", "# HLP rl_policy_loss")
    refused = subprocess.run(
        [promtool, "check", "metrics"], input=broken, text=True, capture_output=True, check=False
    )
    assert refused.returncode != 0
