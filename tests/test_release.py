"""The version is the same everywhere, and the release workflow tests what it publishes, before it does."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import rl_exporter
from tests.support import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COPIES = {
    "docker-compose.yml": r"image: rl-policy-exporter:(\S+)",
    "deploy/kubernetes/example/job.yaml": r"image: rl-policy-exporter:(\S+)",
    "docs/kubernetes.md": r"rl-policy-exporter:(\d\S+)",
    "docs/releasing.md": r"rl-exporter:(\d\S+)",
    "deploy/image/exporter/Dockerfile": r"--tag rl-exporter:(\S+)",
}
"""Files that no build step reads."""

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
JOBS = WORKFLOW["jobs"]
TRIGGER = WORKFLOW[True]  # YAML 1.1 reads `on` as a truth value
DOCKERFILES = {"trainer": ROOT / "Dockerfile", "exporter": ROOT / "deploy/image/exporter/Dockerfile"}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_the_version_is_current(name):
    found = re.findall(COPIES[name], (ROOT / name).read_text())
    assert found
    assert set(found) == {VERSION}, f"{name}: write {VERSION}"


def test_the_version_stands_once_and_the_changelog_has_it():
    assert rl_exporter.__version__ == VERSION
    assert f"\n## {VERSION}\n" in (ROOT / "CHANGELOG.md").read_text()
    sources = [*ROOT.glob("exporter/**/*.py"), *ROOT.glob("training/**/*.py")]
    assert len(sources) > 100
    assert [path for path in sources if f'"{VERSION}"' in path.read_text()] == []


def step(job, name):
    (found,) = (each["run"] for each in JOBS[job]["steps"] if name in each.get("name", ""))
    return found


def shell(script, **environment):
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize(("tag", "status"), [(f"v{VERSION}", 0), (VERSION, 1), ("v99.0.0", 1)])
def test_only_the_tag_of_the_version_is_built(tag, status):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = shell(step("build", "the tag is"), GITHUB_REF_NAME=tag, PATH=path)
    assert (done.returncode, f"is not v{VERSION}" in done.stderr) == (status, bool(status)), done.stderr


def test_the_probe_of_what_is_published_holds():
    probe = re.search(r"<<'PROBE'\n(.*?)PROBE\n", step("install", "installs and serves"), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    broken = probe.replace("} 0.8'", "} 0.9'")
    assert subprocess.run([sys.executable, "-c", broken], capture_output=True, check=False).returncode == 1


def before(job):
    needs = JOBS[job].get("needs", [])
    direct = [needs] if isinstance(needs, str) else needs
    return set(direct).union(*map(before, direct))


def test_nothing_is_published_before_both_archives_are_tested():
    assert before("publish") == {"build", "install", "test"}
    assert before("images") == {"build", "install", "test", "publish"}
    assert set(JOBS["install"]["strategy"]["matrix"]["kind"]) == {"*.whl", "*.tar.gz"}
    assert TRIGGER == {"push": {"tags": ["v*"]}}


def test_only_the_job_that_publishes_may_and_no_secret_is_stored():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "publish": {"id-token": "write"},
        "images": {"contents": "read", "packages": "write"},
    }
    assert JOBS["publish"]["environment"] == "pypi"
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_every_step_of_the_workflow_is_a_pinned_action_or_a_command():
    for name, job in JOBS.items():
        assert job["timeout-minutes"] <= 90, name
        for each in job["steps"]:
            assert len({"uses", "run"} & each.keys()) == 1
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", each.get("uses", "a/b@v1"))


def test_every_image_of_the_workflow_has_its_file():
    files = {each["file"] for each in JOBS["images"]["strategy"]["matrix"]["include"]}
    assert files == {str(path.relative_to(ROOT)) for path in DOCKERFILES.values()}


def test_the_image_of_the_exporter_is_that_of_the_trainer_without_torch_and_trainer():
    lines = {name: path.read_text().splitlines() for name, path in DOCKERFILES.items()}
    copied = {name: [line for line in text if line.startswith("COPY")] for name, text in lines.items()}
    assert copied["exporter"] == copied["trainer"]
    for name, command in {"trainer": "rl-train", "exporter": "rl-exporter"}.items():
        assert f'ENTRYPOINT ["{command}"]' in lines[name]
        assert "USER 10001:10001" in lines[name]
        assert (
            lines[name].count("FROM ${PYTHON_IMAGE} AS build") == lines[name].count("FROM ${PYTHON_IMAGE}") == 1
        )
    assert "torch" not in "\n".join(line for line in lines["exporter"] if not line.startswith("#"))


def test_the_image_of_the_exporter_installs_its_dependencies_with_their_hashes():
    text = (ROOT / "deploy/image/exporter/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["web"]
    assert {re.match(r"[\w-]+", each)[0] for each in wanted} <= pinned.keys()
    assert not {"torch", "numpy", "rich", "textual"} & pinned.keys()
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: constraints.get(name) for name in pinned} == pinned
    assert text.count("--hash=sha256:") >= 2 * len(pinned) - 3


def test_the_lowest_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ("training", "tui", "web", "numpy", "skrl")
    wanted = project["dependencies"] + [
        one for name in extras for one in project["optional-dependencies"][name]
    ]
    required = [Requirement(one) for one in wanted]
    floors = {one.name.lower(): {Version(each.version) for each in one.specifier} for one in required}
    del floors["rl-policy-exporter"]
    lowest = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE)
    assert {name: {Version(version)} for name, version in lowest} == floors
