"""The wheel, installed into a clean environment without extras, serves /metrics and loads no torch."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack

PROBE = """
import subprocess, sys, urllib.request
import rl_exporter as rl
heads = rl.Heads.of({"gripper": 4})
aggregator = rl.SanctumAggregator(heads, rl.RunInfo("wheel"))
aggregator.handle_ppo_update(rl.PPOUpdatePayload(heads={"gripper": rl.HeadMeasurement(0.8)}))
with rl.MetricsServer(aggregator.snapshot, rl.ListenAddress(port=0)) as server:
    once = subprocess.run([*sys.argv[1:], "watch", "--once", server.url], capture_output=True, text=True)
    assert once.returncode == 0 and "0.800 H" in once.stdout, once
    text = urllib.request.urlopen(server.url + "/metrics", timeout=10).read().decode()
assert 'rl_policy_head_entropy_nats{head="gripper",run_id="wheel"} 0.8' in text, text
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, Path.cwd()]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=True)
    (wheel,) = folder.glob("*.whl")
    install = [folder / "env/bin/python", "-m", "pip", "install", "--quiet", "-c", "constraints.txt", wheel]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "env/bin"


def test_it_serves_metrics_without_torch(environment, tmp_path):
    probe = subprocess.run(
        [environment / "python", "-c", PROBE, environment / "rl-exporter"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr


def test_console_scripts_say_which_extra_is_missing(environment, tmp_path):
    exporter = subprocess.run(
        [environment / "rl-exporter", "metrics"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert exporter.returncode == 0
    assert "rl_policy_head_entropy_nats" in exporter.stdout
    watch = subprocess.run(
        [environment / "rl-exporter", "watch"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert watch.returncode == 3
    assert watch.stderr.count("\n") == 1
    assert "rl-policy-exporter[tui]" in watch.stderr
    trainer = subprocess.run(
        [environment / "rl-train"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert trainer.returncode == 2
    assert trainer.stderr.count("\n") == 1
    assert "rl-policy-exporter[training]" in trainer.stderr
