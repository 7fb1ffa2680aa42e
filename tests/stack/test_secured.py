"""Runs behind certificates and passwords, for a real Prometheus with the shipped job."""

import json
import subprocess
from types import SimpleNamespace

import pytest
import yaml

from tests.support import ROOT, trainers
from tests.support.certificates import HASH, PASSWORD, Certificates
from tests.support.one_prometheus import prometheus_with
from tests.support.servers import get, query
from tests.support.small_runs import SMALL_UPDATES
from tests.support.waiting import until

pytestmark = pytest.mark.stack

TRAIN = (
    *("--env", "heads", "--num-envs", "4", "--rollout-steps", "16", *SMALL_UPDATES, "--pace", "0.5"),
    *("--listen", "127.0.0.1:0", "--linger", "5", "--quiet", "--updates", "100000"),
)


@pytest.fixture
def world(prometheus, tmp_path):
    """The shipped secured job with a run that asks for a certificate and a password."""
    (job,) = yaml.safe_load((ROOT / "prometheus/secured.yml").read_text())["scrape_configs"]
    targets, secrets = tmp_path / "targets", tmp_path / "secrets"
    targets.mkdir()
    secrets.mkdir()
    certificates = Certificates(secrets)
    certificates.issue("prometheus", "prometheus.example.org")
    (secrets / "password").write_text(PASSWORD)
    web = certificates.mutual(users={"prometheus": HASH}, client_allowed_sans=["prometheus.example.org"])
    job["file_sd_configs"][0]["refresh_interval"] = "1s"
    run = trainers.start(*TRAIN, "--web.config.file", web, "--register", targets, "--run-id", "secured")
    try:
        with prometheus_with(prometheus, tmp_path, job) as address:
            yield SimpleNamespace(server=address, certificates=certificates, run=run, targets=targets)
    finally:
        run.kill()
        run.join()


def up(world, value=1):
    return [v["value"][1] for v in query(world.server, 'up{job="rl-training"}')] == [str(value)]


def updates(world):
    found = query(world.server, "rl_training_updates_total")
    return float(found[0]["value"][1]) if found else 0.0


def last_error(world):
    active = json.loads(get(f"http://{world.server}/api/v1/targets?state=active"))["data"]["activeTargets"]
    return [target["lastError"] for target in active]


def serial(world):
    """Of the certificate that the run shows now, as openssl's client sees it."""
    entry = json.loads((world.targets / "secured.run.json").read_text())
    folder, address = world.certificates.folder, entry[0]["targets"][0]
    command = ("openssl", "s_client", "-connect", address, "-CAfile", folder / "ca.pem")
    own = ("-cert", folder / "prometheus.pem", "-key", folder / "prometheus.key")
    shown = subprocess.run((*command, *own), input="", capture_output=True, text=True, check=False).stdout
    return subprocess.run(
        ("openssl", "x509", "-noout", "-serial"), input=shown, capture_output=True, text=True, check=True
    ).stdout


def test_a_real_prometheus_scrapes_through_a_change_of_certificate(world):
    until(lambda: up(world) and updates(world) > 1)
    before = serial(world)
    # Both sides get new certificates from a new authority, which each trusts from then on.
    renewed = Certificates(world.certificates.folder)
    renewed.issue("prometheus", "prometheus.example.org")
    until(lambda: serial(world) != before)
    seen = updates(world)
    until(lambda: up(world) and updates(world) > seen + 2)
    assert last_error(world) == [""]


def test_a_real_prometheus_without_the_password_or_the_certificate_is_down(world):
    until(lambda: up(world))
    secrets = world.certificates.folder
    (secrets / "password").write_text("wrong")
    until(lambda: up(world, 0) and "401" in last_error(world)[0])
    (secrets / "password").write_text(PASSWORD)
    until(lambda: up(world))
    world.certificates.issue("prometheus", "grafana.example.org")
    world.run.terminate()  # its connection is still that of the former certificate; the next run's is not
    world.run.join()
    web = secrets / "web.yml"
    again = trainers.start(*TRAIN, "--web.config.file", web, "--register", world.targets, "--run-id", "again")
    try:
        until(lambda: up(world, 0))
    finally:
        again.kill()
        again.join()


def test_promtool_takes_the_shipped_job(promtool, tmp_path):
    for name in ("ca.pem", "prometheus.pem", "prometheus.key", "password"):
        (tmp_path / "secrets").mkdir(exist_ok=True)
        (tmp_path / "secrets" / name).write_text("x")
    Certificates(tmp_path / "secrets").issue("prometheus", "prometheus.example.org")
    (tmp_path / "secured.yml").write_text((ROOT / "prometheus/secured.yml").read_text())
    checked = subprocess.run(
        [promtool, "check", "config", tmp_path / "secured.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
