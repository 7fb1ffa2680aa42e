"""The dashboards in a real Grafana (GRAFANA_HOME or GRAFANA_URL) and a real browser, against the real Prometheus."""

import base64
import json
import os
import urllib.error
import urllib.request

import pytest

from stack.processes import free_address
from tests.support.browser import browser, chromium
from tests.support.dashboard_files import BOARDS, FOLDER, targets
from tests.support.worlds import EXPLODING

pytestmark = pytest.mark.stack
UID = "rl-prometheus"
SOURCES = {"bare": "rl-bare", "dead": "rl-dead"}
"""Data sources without rules, and one that nothing answers."""

RANGE = "from=now-15m&to=now"


def send(method, url, body):
    """A request as the administrator; a Grafana that lets anybody be one ignores that."""
    admin = base64.b64encode(b"admin:admin").decode()
    data, headers = (
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {admin}"},
    )
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def add_source(grafana, uid, prometheus, *, default=False):
    source = {"name": uid, "uid": uid, "type": "prometheus", "access": "proxy"}
    source |= {"url": f"http://{prometheus}", "isDefault": default}
    try:
        send("POST", f"{grafana}/api/datasources", source)
    except urllib.error.HTTPError as error:
        error.close()
        send("PUT", f"{grafana}/api/datasources/uid/{uid}", source)


def provision(grafana, prometheus):
    """Give a Grafana that runs elsewhere, and lets anybody be its admin, the data source and the dashboards."""
    add_source(grafana, UID, prometheus, default=True)
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
    worlds = request.getfixturevalue("worlds")
    if url:
        url = url.rstrip("/")
        provision(url, worlds.ruled)
    else:
        worlds.stack.start_grafana()
        url = f"http://{worlds.stack.grafana}"
    for uid, address in zip(SOURCES.values(), (worlds.bare, free_address()), strict=True):
        add_source(url, uid, address)
    return url


@pytest.fixture(scope="module")
def visit(grafana):
    with browser(chromium()) as opened:
        yield lambda path, **looks: opened(grafana + path, **looks)


def of_eight(uid, run="b-collapsed"):
    """Variables that choose what a dashboard shows of the eight runs."""
    if uid in {"rl-heads", "rl-run"}:
        return f"&var-cluster=eight&var-run_id={run}"
    return "&var-head=blueprint&var-cluster=eight" if uid == "rl-compare" else "&var-cluster=eight"


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 1600])
@pytest.mark.parametrize("docked", [True, False], ids=["docked", "kiosk"])
@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_every_panel_loads_without_an_error_and_nothing_is_cut_off(visit, uid, docked, width, theme):
    mode = "" if docked else "&kiosk"
    seen = visit(f"/d/{uid}?{RANGE}&theme={theme}{mode}{of_eight(uid)}", width=width, docked=docked)
    assert seen.problems() == []
    assert seen.clipped() == []
    wanted = {title for title, _ in targets(BOARDS[uid]) if "$" not in title}
    lazy = {panel["title"] for panel in seen.panels if panel["loading"]}
    assert wanted - lazy <= {panel["title"] for panel in seen.panels} | set(BELOW)
    assert all(panel["right"] <= width for panel in seen.panels)


BELOW = {title for title, _ in targets(BOARDS["rl-heads"])}
"""Grafana loads what is far below the edge of the window only when somebody scrolls there."""


def shown(seen):
    return {panel["title"]: panel for panel in seen.panels}


def test_the_tiles_stand_in_the_declared_order_and_say_verdicts(visit):
    seen = visit(f"/d/rl-heads?{RANGE}&kiosk{of_eight('rl-heads')}")
    heads = ["op", "slot", "blueprint", "style", "tempo", "alpha_target", "alpha_speed", "alpha_curve"]
    assert [panel["title"] for panel in seen.panels][:8] == heads
    assert "collapsed" in shown(seen)["blueprint"]["text"]
    assert "healthy" in shown(seen)["op"]["text"]
    assert "1" in shown(seen)["Pages"]["text"]


def test_fleet_has_the_exploding_runs_on_top(visit):
    seen = visit(f"/d/rl-fleet?{RANGE}&kiosk&var-cluster=fleet")
    assert seen.problems() == []
    table = shown(seen)["Runs, what pages first"]["text"]
    places = [table.index(f"run-{number:03}") for number in EXPLODING]
    others = [table.find(f"run-{number:03}") for number in range(0, 200, 5)]
    assert max(places) < min(place for place in others if place >= 0)
    assert "3" in shown(seen)["Runs that page"]["text"]


def test_without_a_choice_heads_shows_the_run_that_fleet_has_on_top(visit):
    seen = visit(f"/d/rl-heads?{RANGE}&kiosk")
    assert seen.problems() == []
    assert "exploding" in shown(seen)["style"]["text"]


def test_all_clusters_in_a_link_are_the_cluster_of_the_run(visit):
    """Fleet's links cannot hold an empty value, so a run without a label has All in them."""
    seen = visit(
        f"/d/rl-heads?{RANGE}&kiosk&var-cluster=$__all&var-namespace=$__all&var-run_id=c-low&var-head=tempo"
    )
    assert "low" in shown(seen)["tempo"]["text"]


def test_an_alert_s_link_selects_run_and_head(visit):
    link = "&var-cluster=eight&var-namespace=&var-run_id=c-low&var-head=tempo"
    seen = visit(f"/d/rl-heads?{RANGE}&kiosk{link}")
    assert seen.problems() == []
    assert "op" not in shown(seen)
    assert "low" in shown(seen)["tempo"]["text"]
    assert "running" in shown(seen)["Run"]["text"]


def test_a_cell_of_the_fleet_opens_heads_for_its_run_and_head_and_says_its_word(visit):
    fleet = visit(f"/d/rl-fleet?{RANGE}&kiosk&var-cluster=eight")
    found = fleet.page.locator("a[href*='/d/rl-heads']").evaluate_all(
        "found => found.map(a => [a.getAttribute('href'), a.getAttribute('title')])"
    )
    cells = [
        link for link, _ in found if "var-run_id=b-collapsed" in link and link.endswith("var-head=blueprint")
    ]
    assert len(cells) == 1
    opened = visit(cells[0])
    assert opened.problems() == []
    assert "collapsed" in shown(opened)["blueprint"]["text"]
    assert "op" not in shown(opened)


GREEN = """(names) => [...document.querySelectorAll("section[data-testid^='data-testid Panel header']")].flatMap(s => {
  const title = s.getAttribute('data-testid').replace('data-testid Panel header ', '');
  if (!names.includes(title)) return [];
  return [...s.querySelectorAll('*')].filter(e => {
    const found = getComputedStyle(e).backgroundColor.match(/\\d+/g)?.map(Number) ?? [0, 0, 0];
    return found[1] > found[0] + 30 && found[1] > found[2] + 30 && e.getBoundingClientRect().width;
  }).map(() => title);
})"""
"""Titles of panels, of those named, with something green."""

COUNTS = ["Runs that page", "Exploding", "Collapsed", "Low", "Failed, lost", "Stalled", "Ended"]


def green(seen, *titles):
    return seen.page.evaluate(GREEN, list(titles))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (f"&var-datasource={SOURCES['bare']}&var-cluster=fleet", "no rules loaded"),
        (f"&var-datasource={SOURCES['dead']}", "no answer from Prometheus"),
        ("&var-cluster=young", "before first update"),
        ("&var-cluster=over", "no run goes on"),
    ],
    ids=["no rules", "no Prometheus", "before the first update", "all over"],
)
def test_where_nothing_is_known_fleet_says_so_and_nothing_is_green(visit, variables, said):
    seen = visit(f"/d/rl-fleet?{RANGE}&kiosk{variables}")
    assert said in shown(seen)["Collapsed"]["text"]
    assert said in shown(seen)["Low"]["text"]
    assert green(seen, *COUNTS) == []
    assert seen.clipped() == []


def test_a_healthy_run_is_green(visit):
    """More than one look: on busy cores a scrape may fail, and the run is lost until the next one."""
    path = f"/d/rl-heads?{RANGE}&kiosk{of_eight('rl-heads', 'a-well')}"
    assert any(green(visit(path), "op") for _ in range(5))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (f"&var-datasource={SOURCES['bare']}{of_eight('rl-heads', 'a-well')}", "no rules loaded"),
        ("&var-cluster=young&var-run_id=young", "before first update"),
        ("&var-cluster=over&var-run_id=completed", "healthy"),
    ],
    ids=["no rules", "before the first update", "over"],
)
def test_where_nothing_is_known_no_tile_is_green(visit, variables, said):
    seen = visit(f"/d/rl-heads?{RANGE}&kiosk{variables}")
    assert said in shown(seen)["op"]["text"]
    heads = ["op", "slot", "blueprint", "style", "tempo", "alpha_target", "alpha_speed", "alpha_curve"]
    assert green(seen, *heads, "Pages", "Weakest head") == []
    assert seen.clipped() == []


def test_a_data_source_that_is_not_there_is_seen(visit):
    seen = visit(f"/d/rl-run?{RANGE}&kiosk&var-datasource=nowhere")
    assert seen.problems() != []
