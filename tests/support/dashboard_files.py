"""The committed dashboards, and what is in them, for tests."""

import json
import re

import pytest

from stack.grafana import interpolated
from tests.support import ROOT

FOLDER = ROOT / "grafana/dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
UIDS = {"rl-heads", "rl-run", "rl-fleet", "rl-compare", "rl-pipeline"}
ONE_RUN = {"rl-heads", "rl-run"}
every_board = pytest.mark.parametrize("uid", sorted(UIDS))
ONE = 'cluster="$cluster", namespace="$namespace", run_id=${run_id:doublequote}'

METRIC = r"(?<![\w$\"./:])(?:head:|global:)?[a-zA-Z_]\w*(?::\w+)?(?=\{|\[)"


def panels(board):
    """All panels, those inside rows among them; not the headings of rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", [])


def targets(board):
    """Panel title and target of every query of every panel."""
    return [(panel["title"], target) for panel in panels(board) for target in panel.get("targets", [])]


def variable_queries(board):
    """Queries of the variables: name and ``label_values(...)``."""
    return {
        variable["name"]: variable["query"]["query"]
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    }


def annotation_queries(board):
    """Queries of the annotations."""
    return [annotation["expr"] for annotation in board["annotations"]["list"] if "expr" in annotation]


def expressions(board):
    """Every PromQL expression of a dashboard, with where it stands."""
    for title, target in targets(board):
        yield f"{title} / {target['refId']}", target["expr"]
    for number, expression in enumerate(annotation_queries(board)):
        yield f"annotation {number}", expression


def filled(
    expression,
    *,
    cluster=".*",
    namespace=".*",
    run_id=".*",
    head=".*",
    environment_metric=".*",
    span="10m",
    rate="15s",
):
    """An expression as Grafana would send it. Where one run is chosen, cluster and namespace are names, else patterns."""
    values = {
        "__range": span,
        "__rate_interval": rate,
        "__interval": rate,
        "cluster": cluster,
        "namespace": namespace,
        "run_id": run_id,
        "head": head,
        "environment_metric": environment_metric,
    }
    return interpolated(expression, values)


def selectors(expression):
    """Every selector of an expression: a metric with its matchers, without its range."""
    text = re.sub(r"\$\{(\w+):regex\}", r"$\1", expression)
    found = re.findall(r"[a-zA-Z_][\w:]*\{[^}]*\}", text)
    rest = re.sub(r"\{[^}]*\}", "", re.sub(r'"[^"]*"|`[^`]*`', "", text))
    bare = re.findall(r"\b(?:rl|prometheus|alertmanager|process|scrape)_\w+\b(?!:)", rest)
    named = {selector.partition("{")[0] for selector in found}
    return set(found) | {name for name in bare if name not in named}


def metrics(board):
    """Names of all metrics that a dashboard's panels, variables and annotations read."""
    texts = [expression for _, expression in expressions(board)] + list(variable_queries(board).values())
    names = {selector.partition("{")[0] for text in texts for selector in selectors(text)}
    return names - {"label_values"}
