import math
import signal
import subprocess
import sys
import urllib.request
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import rl_exporter
from rl_exporter import Level, RunState
from tests.support.scraping import scrape


@pytest.fixture
def heads():
    recorder = rl_exporter.serve({"gripper": 4, "arm": 9}, run_id="grasp-17", listen="127.0.0.1:0", linger=0)
    yield recorder
    recorder.close()


def body(recorder):
    return urllib.request.urlopen(recorder.url + "/metrics", timeout=10).read().decode()


def test_three_lines_put_a_policy_on_metrics(heads):
    heads.record(entropy={"gripper": 0.8, "arm": 1.2})
    text = body(heads)
    assert 'rl_policy_head_entropy_nats{head="gripper",run_id="grasp-17"} 0.8' in text
    assert (
        f'rl_policy_head_entropy_normalized_ratio{{head="arm",run_id="grasp-17"}} {1.2 / math.log(9)!r}' in text
    )
    assert 'rl_policy_entropy_nats{run_id="grasp-17"} 2.0' in text


def test_everything_that_is_known_is_recorded(heads):
    per_head = {"gripper": 0.5}
    numbers = dict.fromkeys(
        ("episode_return", "entropy_coefficient", "kl_divergence", "clipped_share", "gradient_norm", "policy_loss",
         "value_loss", "explained_variance", "rollout_duration", "update_duration"), np.float32(0.25))  # fmt: skip
    heads.record(
        per_head,
        choice_entropy={"gripper": 0.2},
        choice_share=per_head,
        open_share=per_head,
        head_gradient_norm=per_head,
        head_importance_ratio_max={"gripper": 1.5},
        environment_steps=64,
        episodes=3,
        **numbers,
    )
    snapshot = heads.snapshot()
    gripper = snapshot.tamiyo.readings["gripper"]
    assert (gripper.choice_entropy, gripper.choice_share, gripper.importance_ratio_max) == (0.2, 0.5, 1.5)
    assert gripper.level is Level.CRITICAL
    assert not snapshot.tamiyo.readings["arm"].measured
    assert (snapshot.environment_steps, snapshot.episodes, snapshot.episode_return) == (64, 3, 0.25)
    assert sum(snapshot.update_durations.counts) == sum(snapshot.rollout_durations.counts) == 1
    for name in ("kl_divergence", "clipped_share", "gradient_norm", "policy_loss", "value_loss"):
        assert getattr(snapshot.tamiyo, name) == 0.25


def test_a_run_id_is_generated_and_readable():
    with rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0) as recorder:
        assert recorder.snapshot().run.run_id.count("-") == 2


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        ({}, "without heads"),
        ({"": 3}, "empty"),
        ({"arm": 0}, "0 choices"),
        ({"arm\ud800": 2}, "UTF-8"),
    ],
)
def test_impossible_heads_are_refused_at_once(declare, reason):
    with pytest.raises(ValueError, match=reason):
        rl_exporter.serve(declare, listen="127.0.0.1:0")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"run_id": ""}, "run_id is empty"),
        ({"run_id": "\ud800"}, "UTF-8"),
        ({"entropy_multipliers": {"leg": 2.0}}, "unknown head 'leg'"),
        ({"listen": "nowhere"}, "HOST:PORT"),
    ],
)
def test_impossible_names_are_refused_at_once(options, reason):
    with pytest.raises(ValueError, match=reason):
        rl_exporter.serve({"arm": 2}, **{"listen": "127.0.0.1:0", **options})


def test_an_unknown_head_is_named_and_changes_nothing(heads):
    with pytest.raises(ValueError, match="unknown head 'leg'; declared heads: gripper, arm"):
        heads.record({"leg": 0.1})
    assert heads.snapshot().tamiyo.updates == 0


def test_what_is_no_number_is_an_error(heads):
    with pytest.raises(TypeError):
        heads.record({"arm": [0.1, 0.2]})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5, 1e9, math.log(9) * 1.008])
def test_an_impossible_entropy_is_counted_not_exported_and_not_raised(heads, bad):
    heads.record({"gripper": 0.8, "arm": bad})
    snapshot = heads.snapshot()
    arm = snapshot.tamiyo.readings["arm"]
    assert not arm.measured
    assert snapshot.record_errors + arm.nan_values + arm.inf_values == 1
    assert 'rl_policy_head_entropy_nats{head="arm"' not in body(heads)
    assert "rl_policy_entropy_nats{" not in body(heads)


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, RunState.COMPLETED), (RuntimeError, RunState.FAILED), (KeyboardInterrupt, RunState.INTERRUPTED)],
)
def test_the_block_ends_the_run(error, state):
    recorder = rl_exporter.serve({"arm": 2}, listen="127.0.0.1:0", linger=0)
    with pytest.raises(error) if error else nullcontext(), recorder:
        if error:
            raise error
    assert recorder.snapshot().run_state is state
    recorder.close()


def test_the_handler_takes_payloads(heads):
    measured = SimpleNamespace(head=rl_exporter.HeadMeasurement(0.4))
    heads.handler.handle_ppo_update(rl_exporter.PPOUpdatePayload(heads={"arm": measured.head}))
    assert heads.snapshot().tamiyo.head_arm_entropy == 0.4


def test_its_repr_says_which_run_it_is_and_where(heads):
    assert repr(heads) == f"<HeadRecorder of run 'grasp-17': running, at {heads.url}/metrics>"
    heads.close(RunState.INTERRUPTED)
    assert repr(heads) == "<HeadRecorder of run 'grasp-17': interrupted, no longer served>"


def scraped(recorder, agent):
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": agent}
    urllib.request.urlopen(
        urllib.request.Request(recorder.url + "/metrics", headers=headers), timeout=10
    ).close()


def test_the_end_of_a_run_says_for_whom_it_waits_and_how_long(caplog):
    recorder = rl_exporter.serve({"arm": 2}, run_id="grasp", listen="127.0.0.1:0", linger=0.01)
    scraped(recorder, "Prometheus/2.42.0")
    recorder.close()
    assert [record.message for record in caplog.records] == [
        "run 'grasp' completed; waits up to 0.01 s for Prometheus/2.42.0 at 127.0.0.1 to fetch the final state; "
        "Ctrl-C skips the wait"
    ]


@pytest.mark.parametrize("linger", [0, 60])
def test_the_end_of_a_run_says_nothing_where_it_does_not_wait(caplog, linger):
    recorder = rl_exporter.serve({"arm": 2}, listen="127.0.0.1:0", linger=linger)
    if not linger:
        scraped(recorder, "Prometheus/2.42.0")
    recorder.close()
    assert caplog.records == []


WAITING = """
import signal
import rl_exporter
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background ignores it
with rl_exporter.serve({"arm": 2}, run_id="grasp", listen="127.0.0.1:0", linger=600) as heads:
    print(heads.url, flush=True)
    input()
print(heads.snapshot().run_state, flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_skips_the_wait_and_nothing_else():
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            scrape(process.stdout.readline().strip() + "/metrics")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stderr.readline().rstrip().endswith("; Ctrl-C skips the wait")
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed, errors) == (0, "completed\n", "")
