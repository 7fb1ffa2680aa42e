"""The wheel, installed into a clean environment without extras, serves /metrics and loads no torch."""

import os
import shutil
import subprocess
import sys
import venv

import pytest

from rl_exporter.alerting.bundle import shipped_files
from rl_exporter.alerting.rewriting import Links
from tests.support import ROOT

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
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=True)
    (wheel,) = folder.glob("*.whl")
    install = [
        folder / "env/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        ROOT / "constraints.txt",
        wheel,
    ]
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


def python(environment, folder, *arguments):
    """What the environment's own Python prints, whatever paths the tests run with."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [environment / "python", *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=True).stdout


SCRIPT = ("-c", "import sys; from rl_exporter.cli.main import main; sys.exit(main())")


def bundle(environment, folder):
    python(environment, folder.parent, *SCRIPT, "bundle", "--out", folder)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_brings_rules_alerts_and_runbooks(environment, tmp_path):
    files = bundle(environment, tmp_path / "bundle")
    assert files == {name: Links().rewritten((ROOT / name).read_text()) for name in map(str, shipped_files())}
    found = python(
        environment,
        tmp_path,
        "-c",
        "import rl_exporter.alerting.bundle as b; print(b.runbook('RLTrainingStalled'))",
    )
    assert "site-packages/rl_exporter/_bundle/alerts/runbooks" in found


def test_an_editable_install_brings_those_of_the_source_tree(environment, tmp_path):
    folder = tmp_path / "editable"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel:editable", "-d", folder]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    clone = tmp_path / "env"
    shutil.copytree(environment.parent, clone, symlinks=True)
    install = [clone / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, check=True, capture_output=True)
    files = bundle(clone / "bin", tmp_path / "bundle")
    assert files == {name: Links().rewritten((ROOT / name).read_text()) for name in map(str, shipped_files())}
    shipped = python(
        clone / "bin", tmp_path, "-c", "import rl_exporter.alerting.bundle as b; print(b.shipped())"
    )
    assert shipped.strip() == str(ROOT)


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
