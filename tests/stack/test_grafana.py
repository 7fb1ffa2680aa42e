"""The dashboards in a real Grafana (GRAFANA_HOME or GRAFANA_URL) and a real browser, against the real Prometheus."""

import json
import os
import urllib.error
import urllib.request

import pytest

from tests.support.browser import browser, chromium
from tests.support.dashboard_files import BOARDS, FOLDER, targets

pytestmark = pytest.mark.stack
UID = "rl-prometheus"


def send(method, url, body):
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def provision(grafana, prometheus):
    """Give a Grafana that runs elsewhere, and lets anybody be its admin, the data source and the dashboards."""
    source = {"name": f"Prometheus {prometheus}", "uid": UID, "type": "prometheus", "access": "proxy"}
    source |= {"url": f"http://{prometheus}", "isDefault": True}
    try:
        send("POST", f"{grafana}/api/datasources", source)
    except urllib.error.HTTPError as error:
        error.close()
        send("PUT", f"{grafana}/api/datasources/uid/{UID}", source)
    for path in FOLDER.glob("*.json"):
        send(
            "POST",
            f"{grafana}/api/dashboards/db",
            {"dashboard": json.loads(path.read_text()), "overwrite": True},
        )


@pytest.fixture(scope="module")
def grafana(request):
    url, home = os.environ.get("GRAFANA_URL"), os.environ.get("GRAFANA_HOME")
    if not (url or home):
        pytest.skip("no Grafana: set GRAFANA_HOME to a tree with bin/grafana, conf and public, or GRAFANA_URL")
    if not chromium():
        pytest.skip("no browser: install chromium so that it is on PATH")
    world = request.getfixturevalue("world")
    if url:
        provision(url.rstrip("/"), world.server)
        return url.rstrip("/")
    world.stack.start_grafana()
    return f"http://{world.stack.grafana}"


@pytest.fixture(scope="module")
def visit(grafana):
    with browser(chromium()) as opened:
        yield lambda path: opened(grafana + path)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_every_panel_loads_without_an_error(visit, uid, theme):
    seen = visit(f"/d/{uid}?from=now-15m&to=now&theme={theme}&var-datasource={UID}&kiosk")
    assert seen.problems() == []
    wanted = {title for title, _ in targets(BOARDS[uid]) if "$head" not in title}
    shown = {panel["title"] for panel in seen.panels}
    assert wanted <= shown
    if uid == "rl-heads":
        heads = {"op", "slot", "blueprint", "style", "tempo"}
        assert heads | {f"What the head does ({head})" for head in heads} <= shown
    assert all(panel["right"] <= 1600 for panel in seen.panels)


def test_a_run_without_cluster_is_selected_by_an_alert_s_link(visit):
    seen = visit("/d/rl-heads?from=now-15m&to=now&kiosk&var-cluster=&var-run_id=run.2%2Bb&var-head=op")
    assert seen.problems() == []
    shown = {panel["title"]: panel for panel in seen.panels}
    assert "op" in shown
    assert "slot" not in shown
    assert not shown["op"]["nodata"]
    assert "running" in shown["Run"]["text"]


def test_a_data_source_that_is_not_there_is_seen(visit):
    seen = visit("/d/rl-run?from=now-15m&to=now&kiosk&var-datasource=nowhere")
    assert seen.problems() != []


def test_a_cell_of_the_fleet_opens_heads_for_its_run_and_head(visit):
    fleet = visit("/d/rl-fleet?from=now-15m&to=now&kiosk")
    links = fleet.page.locator("a[href*='/d/rl-heads']").evaluate_all(
        "found => found.map(a => a.getAttribute('href'))"
    )
    cells = [link for link in links if "var-run_id=run.2%2Bb" in link and link.endswith("var-head=op")]
    assert len(cells) == 1
    opened = visit(cells[0])
    assert opened.problems() == []
    shown = {panel["title"]: panel for panel in opened.panels}
    assert "op" in shown
    assert "slot" not in shown
    assert "running" in shown["Run"]["text"]
