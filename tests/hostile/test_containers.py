"""The containers: no password that is known, no right that is not needed, and nothing of unknown content in the image."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.support import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DIGESTS = yaml.safe_load((ROOT / "deploy/compose/digests.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
START = ROOT / "deploy/compose/grafana.sh"
IMAGE = ROOT / "deploy/image"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] <= 512
    assert all("size=" in mount for mount in service["tmpfs"]), "memory, too"
    assert not {"privileged", "cap_add", "devices", "user"} & set(service)


def containers():
    for path in sorted((ROOT / "deploy/kubernetes").rglob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            pod = ((manifest or {}).get("spec") or {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                yield path.name, pod, container


def test_pods_have_no_more_rights_than_containers():
    found = list(containers())
    assert found
    for _, pod, container in found:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_no_file_of_the_stack_holds_or_defaults_a_password():
    text = (ROOT / "docker-compose.yml").read_text()
    assert "GF_SECURITY_ADMIN_PASSWORD" not in text
    assert not re.search(r"(?i)password\}?:-?\s*\w*admin", text)
    assert COMPOSE["secrets"] == {
        "grafana-admin-password": {"file": "${GRAFANA_ADMIN_PASSWORD_FILE:-/dev/null}"}
    }
    assert SERVICES["grafana"]["secrets"] == ["grafana-admin-password"]
    assert SERVICES["grafana"]["environment"]["RL_ADMIN_PASSWORD_FILE"] == "/run/secrets/grafana-admin-password"


def start_grafana(data, given="/dev/null", **options):
    """The start script, with a command in the place of Grafana that prints the password that it would get."""
    environment = {"PATH": os.environ["PATH"], "GF_PATHS_DATA": str(data), "RL_ADMIN_PASSWORD_FILE": str(given)}
    command = ["sh", START, "sh", "-c", 'cat "$GF_SECURITY_ADMIN_PASSWORD__FILE"']
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


def test_a_password_is_made_once_and_only_grafana_can_read_it(tmp_path):
    first, again = start_grafana(tmp_path), start_grafana(tmp_path)
    assert first.returncode == 0
    assert len(first.stdout.strip()) == 32
    assert again.stdout == first.stdout
    (tmp_path / "other").mkdir()
    assert start_grafana(tmp_path / "other").stdout != first.stdout
    assert (tmp_path / "admin-password").stat().st_mode & 0o777 == 0o600
    assert first.stderr == ""


def test_a_password_from_a_file_is_taken(tmp_path):
    (tmp_path / "mine").write_text("correct horse\n")
    assert start_grafana(tmp_path, tmp_path / "mine").stdout == "correct horse\n"
    assert not (tmp_path / "admin-password").exists()


def test_an_empty_password_starts_nothing(tmp_path):
    """Grafana would take it for none, and use "admin"."""
    (tmp_path / "blank").write_text("\n")
    refused = start_grafana(tmp_path, tmp_path / "blank")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "cannot be read, or is empty" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_a_password_that_cannot_be_read_starts_nothing():
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    folder.chmod(0o755)
    (folder / "mine").write_text("secret")
    (folder / "mine").chmod(0o600)
    script = START.read_text()  # by standard input: the other user may not read this checkout
    refused = subprocess.run(
        ["sh", "-s", "true"], input=script, env={"PATH": os.environ["PATH"], "RL_ADMIN_PASSWORD_FILE": str(folder / "mine")},
        capture_output=True, text=True, check=False, user=65534, cwd="/",
    )  # fmt: skip
    assert refused.returncode == 1
    assert "cannot be read" in refused.stderr
    (folder / "mine").unlink()
    folder.rmdir()


def test_every_image_has_a_digest_of_the_same_tag():
    schema = json.loads((ROOT / "tests/deploy/schema/compose-spec.json").read_text())
    assert list(jsonschema.Draft7Validator(schema).iter_errors(DIGESTS)) == []
    assert set(DIGESTS["services"]) == set(SERVICES)
    for name, service in DIGESTS["services"].items():
        if "image" in service:
            tag, _, digest = service["image"].partition("@")
            assert tag == SERVICES[name]["image"]
        else:
            tag, _, digest = service["build"]["args"]["PYTHON_IMAGE"].partition("@")
            assert f"ARG PYTHON_IMAGE={tag}\n" in DOCKERFILE
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest), name


def locked(name):
    """Versions in a requirements file, each of which must have hashes."""
    entries = re.split(r"\n(?=[a-zA-Z])", (IMAGE / name).read_text())[1:]
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    return dict(re.match(r"([\w.-]+)==(\S+)", entry).groups() for entry in entries)


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def names(requirements):
    return {re.match(r"[\w.-]+", text)[0].lower() for text in requirements}


def test_the_image_is_built_from_known_hashes_of_the_tested_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rest, torch, build = locked("requirements.txt"), locked("torch.txt"), locked("build.txt")
    tested = constraints()
    assert {name: tested.get(name) for name in (rest | torch)} == rest | torch, "make image-requirements"
    assert build["hatchling"] == tested["hatchling"]
    extras = project["project"]["optional-dependencies"]
    needed = names((*project["project"]["dependencies"], *extras["training"], *extras["web"]))
    assert needed - {"rl-policy-exporter"} <= set(rest) | set(torch), "make image-requirements"
    assert names(project["build-system"]["requires"]) <= set(build)
    assert not set(rest) & set(torch)


def test_nothing_else_is_installed_into_the_image():
    installs = re.findall(r"pip install [^\n&;]*", DOCKERFILE)
    assert len(installs) == 5
    for install in installs:
        of_another_index = "--index-url" in install and "torch==" in install
        own_wheel = "--no-deps /wheels/" in install
        assert "--require-hashes" in install or of_another_index or own_wheel, install
