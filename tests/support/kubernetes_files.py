"""The manifests under ``deploy/kubernetes`` and the schemas that they are held to, for tests."""

import json

import jsonschema
import yaml

from tests.support import ROOT

FOLDER = ROOT / "deploy/kubernetes"
EVERY = {
    str(path.relative_to(FOLDER)): yaml.safe_load(path.read_text()) for path in sorted(FOLDER.rglob("*.yaml"))
}
KUSTOMIZATIONS = {
    name: document for name, document in EVERY.items() if document["kind"] in {"Kustomization", "Component"}
}
MANIFESTS = {name: document for name, document in EVERY.items() if name not in KUSTOMIZATIONS}

_SCHEMAS = json.loads((ROOT / "tests/deploy/schema/kubernetes.json").read_text())


class Loader(yaml.SafeLoader):
    """YAML 1.1 gives a plain ``=`` a meaning of its own, which PyYAML cannot build; here it is a string."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def of_kind(kind):
    """The one manifest of a kind."""
    (found,) = [document for document in MANIFESTS.values() if document["kind"] == kind]
    return found


def validator(kind):
    """What checks objects of a kind; ValidationError for a kind that has no schema here."""
    return jsonschema.Draft202012Validator({**_SCHEMAS, "$ref": f"#/$defs/{kind}"})


def mappings(node, path=()):
    """Every mapping in a document, with its path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from mappings(value, (*path, key))
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield from mappings(value, (*path, number))
