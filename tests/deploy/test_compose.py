"""docker-compose.yml and Dockerfile as files: valid, pinned, on loopback, and with everything that they mount."""

import copy
import json
import re
import stat
from pathlib import Path

import jsonschema
import pytest
import yaml

from rl_exporter.cli.main import main as exporter
from rl_training.run.cli import parser, settings_from
from stack.configuration import PAGES
from tests.support import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
SCHEMA = json.loads((Path(__file__).parent / "schema/compose-spec.json").read_text())


def test_it_follows_the_compose_specification():
    validator = jsonschema.Draft7Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    assert list(validator.iter_errors(COMPOSE)) == []
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["grafana"]["portz"] = ["3000:3000"]
    wrong["services"]["trainer"]["restart"] = False
    assert len(list(validator.iter_errors(wrong))) == 2


def test_images_are_pinned_and_every_service_has_a_health_check():
    assert set(SERVICES) == {"trainer", "prometheus", "alertmanager", "pages", "grafana"}
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", dockerfile, flags=re.MULTILINE)
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w-]*", base)


def test_ports_are_on_loopback_and_can_be_changed():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-(\d+)\}:\1", port), port
    assert "ports" not in SERVICES["trainer"]


def mounts():
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            yield name, mount


def test_mounted_files_exist_can_be_read_by_anybody_and_are_not_created_when_missing():
    binds = [(name, mount) for name, mount in mounts() if mount["type"] == "bind"]
    assert len(binds) >= 6
    for name, mount in binds:
        assert mount["read_only"], name
        assert mount["bind"] == {"create_host_path": False}, name
        source = ROOT / mount["source"]
        assert source.exists(), source
        assert all(path.stat().st_mode & stat.S_IROTH for path in (source, *source.rglob("*"))), source
    volumes = {mount["source"] for _, mount in mounts() if mount["type"] == "volume"}
    assert volumes == set(COMPOSE["volumes"])


def inside(service, path):
    """The file of the repository that a container sees at ``path``: the deepest mount holds it."""
    found = [mount for _, mount in mounts() if mount in SERVICES[service]["volumes"] and mount["type"] == "bind"
             and Path(path).is_relative_to(mount["target"])]  # fmt: skip
    mount = max(found, key=lambda mount: len(mount["target"]))
    return ROOT / mount["source"] / Path(path).relative_to(mount["target"])


def test_the_servers_find_their_files():
    configured = "/etc/rl/prometheus/prometheus.yml"
    assert f"--config.file={configured}" in SERVICES["prometheus"]["command"]
    config = yaml.safe_load(inside("prometheus", configured).read_text())
    for pattern in config["rule_files"]:
        folder = inside(
            "prometheus", Path("/etc/rl/prometheus", pattern).parent.as_posix().replace("prometheus/../", "")
        )
        assert list(folder.glob("*.yml")), pattern
    assert inside("alertmanager", "/etc/rl/alerts/alertmanager.yml").is_file()
    environment = SERVICES["grafana"]["environment"]
    assert inside("grafana", environment["GF_PATHS_PROVISIONING"] + "/datasources/prometheus.yml").is_file()
    assert inside("grafana", environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    assert inside("grafana", environment["RL_DASHBOARDS"] + "/rl-heads.json").is_file()


def discovered(service, folder):
    (path,) = inside(service, folder).glob("*.json")
    ((address,),) = [group["targets"] for group in json.loads(path.read_text())]
    return address


def test_trainer_and_alertmanager_are_discovered_under_their_names():
    assert discovered("prometheus", "/etc/rl/prometheus/targets") == "trainer:28008"
    assert discovered("prometheus", "/etc/rl/prometheus/alertmanagers") == "alertmanager:9093"
    listen = SERVICES["trainer"]["command"][SERVICES["trainer"]["command"].index("--listen") + 1]
    assert listen == "0.0.0.0:28008"


def test_alertmanager_reaches_the_receiver_of_pages_at_its_own_loopback():
    pages, port = SERVICES["pages"], PAGES.rpartition(":")[2]
    assert pages["network_mode"] == "service:alertmanager"
    assert f"0.0.0.0:{port}" in pages["command"]
    assert any(published.endswith(f":{port}") for published in SERVICES["alertmanager"]["ports"])
    assert f"http://{PAGES}/" in inside("alertmanager", "/etc/rl/alerts/alertmanager.yml").read_text()


def test_the_trainer_runs_until_stopped_and_is_not_restarted():
    trainer = SERVICES["trainer"]
    assert trainer["restart"] == "no"
    command = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", part) for part in trainer["command"]]
    settings = settings_from(parser().parse_args(command))
    assert settings.run.updates > 10**9
    assert settings.output.linger < float(trainer["stop_grace_period"].removesuffix("s"))


def test_the_receiver_s_command_is_one(capsys):
    with pytest.raises(SystemExit) as stopped:
        exporter([*SERVICES["pages"]["command"], "--help"])
    assert stopped.value.code == 0


def test_the_image_copies_what_the_wheel_needs_and_runs_without_root():
    text = (ROOT / "Dockerfile").read_text()
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    copied = [
        name for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, flags=re.MULTILINE) for name in line.split()
    ]
    assert all((ROOT / name).exists() for name in copied)
    assert {name.partition("/")[0] for name in copied} == set(kept)
    needed = re.findall(r'^  "([\w/.-]+)",$', (ROOT / "pyproject.toml").read_text().partition("only-include = [")[2]
                        .partition("]")[0], flags=re.MULTILINE)  # fmt: skip
    assert {name.partition("/")[0] for name in needed} <= set(copied)
    assert re.search(r"^USER (?!0|root)", text, flags=re.MULTILINE)
    assert text.count("\nFROM ") == 2
