"""The manifests against the schemas of Kubernetes and of the Prometheus operator, and through kustomize."""

import copy
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from rl_exporter.cli.main import main as exporter
from tests.support.kubernetes_files import (
    EVERY,
    FOLDER,
    KUSTOMIZATIONS,
    MANIFESTS,
    ROOT,
    Loader,
    mappings,
    of_kind,
    validator,
)

every_manifest = pytest.mark.parametrize("name", MANIFESTS)


def mistakes(document):
    return [error.message for error in validator(document["kind"]).iter_errors(document)]


@every_manifest
def test_it_follows_the_schema_of_its_kind(name):
    assert mistakes(MANIFESTS[name]) == []


FREE = {"labels", "annotations", "matchLabels", "selector", "data", "requests", "limits"}
"""Maps whose keys are the writer's."""


def accepted(document):
    """Where an unknown field would go unnoticed."""
    check = validator(document["kind"])
    for path, mapping in mappings(document):
        mapping["misspelt"] = "1"
        if check.is_valid(document):
            yield path
        del mapping["misspelt"]


@pytest.mark.parametrize("kind", ["Job", "Service", "NetworkPolicy", "PodMonitor", "AlertmanagerConfig"])
def test_an_unknown_field_is_refused_wherever_it_stands(kind):
    document = copy.deepcopy(of_kind(kind))
    assert {path[-1] for path in accepted(document)} <= FREE


@pytest.mark.parametrize("name", ["rules/training.yaml", "dashboards/rl-run.yaml"])
def test_an_unknown_field_is_refused_in_generated_files_too(name):
    assert {path[-1] for path in accepted(copy.deepcopy(MANIFESTS[name]))} <= FREE


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("Job", ("spec", "completionMode"), 2, "2 is not of type 'string'"),
        ("Job", ("apiVersion",), "batch/v2", "'batch/v2' is not one of ['batch/v1']"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "15 s", "'15 s' does not match"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "relabelings", 0, "action"), "keeps", "not one of"),
        ("AlertmanagerConfig", ("spec", "route", "routes", 2, "routes", 0, "groupBy"), "run_id", "not of type"),
        ("NetworkPolicy", ("spec", "policyTypes"), "Ingress", "'Ingress' is not of type"),
    ],
)
def test_a_wrong_value_is_refused(kind, path, value, said):
    document = copy.deepcopy(of_kind(kind))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any(said in mistake for mistake in mistakes(document)), mistakes(document)


def unlisted(files, kustomizations):
    """Manifests and folders that no kustomization lists, and what is listed and not there."""
    for name, document in kustomizations.items():
        folder = Path(name).parent
        there = {str(path.relative_to(folder)) for path in map(Path, files) if path.parent == folder}
        folders = {
            str(path.parent.relative_to(folder))
            for path in map(Path, files)
            if path.name == "kustomization.yaml" and path.parent.parent == folder and path.parent != folder
        }
        listed = set(document.get("resources", ()))
        yield from sorted(there - {"kustomization.yaml"} - listed)
        yield from sorted(listed - there - folders)
        yield from sorted(folders - listed)


def test_every_manifest_is_listed_once_and_optional_parts_are_not():
    assert list(unlisted(EVERY, KUSTOMIZATIONS)) == ["alertmanager", "example", "secured"]
    fewer = {**KUSTOMIZATIONS, "rules/kustomization.yaml": {"resources": ["heads.yaml", "tails.yaml"]}}
    assert {"training.yaml", "tails.yaml"} < set(unlisted(EVERY, fewer))


def test_what_is_applied_together_has_names_of_its_own():
    named = [(document["kind"], document["metadata"]["name"]) for document in MANIFESTS.values()]
    assert len(named) == len(set(named)) == len(MANIFESTS)
    assert not any("namespace" in document["metadata"] for document in MANIFESTS.values())


def kustomize():
    """The command that builds a kustomization, of the program that is installed."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            return command
    return pytest.skip("neither kustomize nor kubectl is on PATH")


def built(folder):
    done = subprocess.run([*kustomize(), folder], capture_output=True, text=True, check=True)
    return list(yaml.load_all(done.stdout, Loader=Loader))


def in_order(documents):
    """By kind and name, with the blanks of expressions made equal: kustomize folds their lines anew."""
    documents = copy.deepcopy(documents)
    for document in documents:
        for _, mapping in mappings(document):
            if isinstance(mapping.get("expr"), str):
                mapping["expr"] = " ".join(mapping["expr"].split())
    return sorted(documents, key=lambda document: (document["kind"], document["metadata"]["name"]))


@pytest.mark.parametrize("folder", [".", "alertmanager", "example"])
def test_kustomize_builds_what_the_files_hold(folder):
    def below(name):
        top = name.partition("/")[0]
        return top == folder if folder != "." else top not in ("alertmanager", "example")

    assert in_order(built(FOLDER / folder)) == in_order([MANIFESTS[name] for name in MANIFESTS if below(name)])


def test_the_kustomization_of_the_documentation_builds(tmp_path):
    text = (ROOT / "docs/kubernetes.md").read_text()
    overlay = textwrap.dedent(text.partition("```yaml\n")[2].partition("```")[0])
    assert exporter(["bundle", "--out", str(tmp_path / "bundle")]) == 0
    (tmp_path / "kustomization.yaml").write_text(overlay)
    documents = built(tmp_path)
    assert [mistakes(document) for document in documents] == [[]] * len(documents)
    assert {document["metadata"]["namespace"] for document in documents} == {"rl"}
    assert {document["metadata"]["labels"]["release"] for document in documents} == {"monitoring"}
    (policy,) = [document for document in documents if document["kind"] == "NetworkPolicy"]
    (prometheus,) = policy["spec"]["ingress"][1]["from"]
    assert prometheus["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "observability"}


def test_the_secured_component_changes_scrape_and_run_and_both_follow_their_schemas(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [kubernetes, kubernetes/example]\ncomponents: [kubernetes/secured]\n"
    )
    documents = built(tmp_path)
    assert [mistakes(document) for document in documents] == [[]] * len(documents)
    by_kind = {document["kind"]: document for document in documents}
    (endpoint,) = by_kind["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["ca"] == {"secret": {"name": "rl-scraper", "key": "ca.crt"}}
    assert endpoint["basicAuth"]["password"] == {"name": "rl-scraper", "key": "password"}
    pod = by_kind["Job"]["spec"]["template"]["spec"]
    (trainer,) = pod["containers"]
    assert "--web.config.file=/etc/rl-web/web.yml" in trainer["args"]
    assert {"name": "web", "mountPath": "/etc/rl-web", "readOnly": True} in trainer["volumeMounts"]
    assert {"name": "web", "secret": {"secretName": "rl-web", "defaultMode": 0o440}} in pod["volumes"]
    for probe in ("startupProbe", "readinessProbe"):
        assert "http.client" not in trainer[probe]["exec"]["command"][2]
    # Two of the names in docs/access.md, as those who follow it would use them.
    page = (ROOT / "docs/access.md").read_text()
    assert "kubectl create secret generic -n rl rl-web" in page
    assert "kubectl create secret generic -n rl rl-scraper" in page
