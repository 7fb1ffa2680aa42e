"""One snapshot, four ways to read it: /metrics, JSON, the landing page, the panel. All say the same."""

import asyncio
import html.parser
import json
import re

import pytest

from rl_exporter.client.parse import parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.panel.action_heads_panel import ActionHeadsPanel
from rl_exporter.panel.app import WatchApp
from rl_exporter.server.landing_page import landing_page
from rl_exporter.view.document import json_line
from tests.support.panel_runs import drill, watched_run

NUMBER = re.compile(r"(?:(?P<prefix>[\d.]+)x)?(?P<number>\d+\.\d{3})")


class Rows(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.rows = {}
        self._row = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self._row = []
        elif tag in {"th", "td"} and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag):
        if tag == "tr":
            label, *cells = self._row
            self.rows.setdefault(label, cells)
            self._row = None

    def handle_data(self, data):
        if self._row:
            self._row[-1] += data


def panel_rows(snapshot):
    """Rows of the panel by label, each cut into the columns that the heads' names begin."""

    async def show():
        class Run:
            @staticmethod
            def snapshot():
                return snapshot

        app = WatchApp([watched_run(Run)])
        async with app.run_test(size=(200, 40)) as pilot:
            await pilot.pause()
            app.refresh_screen()
            await pilot.pause()
            return app.screen.query_one(ActionHeadsPanel).render().plain

    lines = asyncio.run(show()).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Entr"))
    starts = [lines[first - 1].index(name) for name in snapshot.tamiyo.heads.names]
    cut = list(zip(starts, [*starts[1:], None], strict=True))
    return {
        line[: starts[0]].strip(): [line[a:b].strip() for a, b in cut]
        for line in lines[first : first + 8]
        if line.strip()
    }


def numbers(cells):
    return [float(found["number"]) if (found := NUMBER.search(cell)) else None for cell in cells]


FIELDS = {
    "Entr": ("entropy", "rl_policy_head_entropy_nats"),
    "Choice": ("choice_entropy", "rl_policy_head_choice_entropy_ratio"),
    "Grad": ("gradient_norm", "rl_policy_head_gradient_norm"),
    "Ratio": ("importance_ratio_max", "rl_policy_head_importance_ratio_max"),
}


@pytest.fixture(scope="module")
def snapshot():
    *_, last = drill()
    return last


def test_all_four_show_the_same_numbers(snapshot):
    body = Renderer(lambda: snapshot).render("")[0].decode()
    document = json.loads(json_line(snapshot))
    page, panel = Rows(landing_page(snapshot, 0.0)).rows, panel_rows(snapshot)
    for label, (field, metric) in FIELDS.items():
        exported = {
            name: float(value)
            for name, value in re.findall(rf'^{metric}{{head="(\w+)",.*}} (\S+)$', body, re.MULTILINE)
        }
        written = {head["name"]: head[field] for head in document["heads"]}
        assert exported == written
        assert len(exported) == 8
        rounded = [round(value, 3) for value in exported.values()]
        assert numbers(page[label]) == pytest.approx(rounded, abs=1e-9), label
        assert numbers(panel[label]) == pytest.approx(rounded, abs=1e-9), label
    for label in ("Entr", "State", "Ratio"):
        assert panel[label] == page[label]
    states = [head["state"] for head in document["heads"]]
    assert [cell.split()[1] for cell in panel["State"]] == states
    active = re.findall(
        r'^rl_policy_head_state{head="\w+",run_id="drill",state="(\w+)"} 1.0$', body, re.MULTILINE
    )
    assert active == states
    assert parse_snapshot(body) == snapshot


def test_that_comparison_sees_a_difference(snapshot):
    """Proof that the above can fail: another snapshot's panel differs."""
    other = next(drill())
    assert numbers(panel_rows(other)["Entr"]) != numbers(panel_rows(snapshot)["Entr"])
    assert numbers(["1.3x0.456 H", "-"]) == [0.456, None]
