"""Write ``kubernetes.json``: what ``deploy/kubernetes`` uses of the Kubernetes API and of the operator's resources.

``python reduce.py SCHEMAS CRDS``, see README.md for where the two folders come from. Descriptions are left out and
unknown fields refused, as ``kubectl apply --validate=strict`` and the API server do.
"""

import json
import sys
from pathlib import Path

import yaml

KINDS = ("configmap-v1", "job-batch-v1", "networkpolicy-networking-v1", "service-v1")
RESOURCES = ("podmonitors", "prometheusrules", "alertmanagerconfigs")
RECEIVER = ("name", "webhookConfigs")
"""What is used of the many ways to notify; the others are a hundred kilobytes."""
METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class Loader(yaml.SafeLoader):
    """YAML 1.1 gives a plain ``=`` a meaning of its own, which PyYAML cannot build; here it is a string."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def bare(node, *, names=False):
    """A schema without its descriptions, with references within one document; ``names`` maps fields."""
    if isinstance(node, list):
        return [bare(part) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: bare(value, names=key in ("properties", "$defs") and not names)
        for key, value in node.items()
        if names or key not in ("description", "$schema", "$id", "x-kubernetes-group-version-kind")
    }
    if isinstance(kept.get("$ref"), str):
        kept["$ref"] = "#/$defs/" + kept["$ref"].rpartition("/")[2]
    return kept


def strict(node):
    """Refuse fields that a schema does not name, unless it says that it keeps them."""
    if isinstance(node, list):
        return [strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", bool(made.get("x-kubernetes-preserve-unknown-fields")))
    return made


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from references(part)


def kubernetes(folder):
    """The kinds of the API by their names, and every definition that they need."""
    every = json.loads((folder / "_definitions.json").read_text())["$defs"]
    found = {}
    for name in KINDS:
        schema = json.loads((folder / f"{name}.json").read_text())
        found[schema["properties"]["kind"]["enum"][0]] = bare(schema)
    wanted = [METADATA, *(name for schema in found.values() for name in references(schema))]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = bare(every[name])
            wanted += references(found[name])
    return found


def resource(path):
    """Kind and schema of a custom resource definition."""
    definition = yaml.load(path.read_text(), Loader=Loader)["spec"]
    (version,) = definition["versions"]
    schema = strict(bare(version["schema"]["openAPIV3Schema"]))
    properties, kind = schema["properties"], definition["names"]["kind"]
    properties["apiVersion"] = {"const": f"{definition['group']}/{version['name']}"}
    properties["kind"] = {"const": kind}
    properties["metadata"] = {"$ref": f"#/$defs/{METADATA}"}
    schema["required"] = ["apiVersion", "kind", "metadata", *schema.get("required", [])]
    return kind, schema


def alertmanager_config(schema):
    """Keep the receivers that are used, and hold nested routes to the schema of the first.

    Definitions cannot refer to themselves, so the operator's code and not its schema checks those.
    """
    specification = schema["properties"]["spec"]["properties"]
    receiver = specification["receivers"]["items"]
    receiver["properties"] = {name: receiver["properties"][name] for name in RECEIVER}
    route = specification["route"]
    route["properties"]["routes"]["items"] = {"$ref": "#/$defs/Route"}
    specification["route"] = {"$ref": "#/$defs/Route"}
    return {"AlertmanagerConfig": schema, "Route": route}


def main(schemas, resources):
    definitions = kubernetes(Path(schemas))
    definitions |= dict(resource(Path(resources) / f"monitoring.coreos.com_{name}.yaml") for name in RESOURCES)
    definitions |= alertmanager_config(definitions["AlertmanagerConfig"])
    lines = (
        f"{json.dumps(name)}:{json.dumps(definitions[name], sort_keys=True)}" for name in sorted(definitions)
    )
    Path(__file__).with_name("kubernetes.json").write_text('{"$defs":{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
