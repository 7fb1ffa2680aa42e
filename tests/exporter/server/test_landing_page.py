import html.parser
import re

from rl_exporter import HeadMeasurement, Heads, RunInfo, SanctumAggregator
from rl_exporter.server.landing_page import POLICY, landing_page
from tests.support.panel_runs import NOW, drill, many_heads, run_of


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.rows = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"} and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_the_page_is_the_panel():
    *_, snapshot = drill()
    page = Page(landing_page(snapshot, NOW + 2))
    names, *rows = page.rows
    assert names[1:] == list(snapshot.tamiyo.heads.names)
    by_label = {row[0]: row[1:] for row in rows}
    assert by_label["Entr"][2:4] == ["0.019 C", "1.2x0.983 H"]
    assert by_label["Choice"][2] == "0.008 C 100%"
    assert by_label["State"][2] == "◆ deterministic"
    bars = [a["style"] for tag, a in page.tags if tag == "span" and "style" in a]
    assert bars[0] == f"width:{snapshot.tamiyo.readings['op'].normalized:.1%}"
    assert len(bars) == 16


def test_it_refreshes_itself_runs_nothing_and_loads_nothing():
    *_, snapshot = drill()
    text = landing_page(snapshot, NOW)
    page = Page(text)
    assert ("meta", {"http-equiv": "refresh", "content": "3"}) in page.tags
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "form"}
    links = [a[k] for _, a in page.tags for k in ("href", "src") if k in a]
    assert sorted(links) == ["/-/healthy", "/-/ready", "/api/v1/heads", "/metrics", "data:,"]
    assert "url(" not in text
    assert "@import" not in text
    assert POLICY.startswith("default-src 'none'")


def test_names_are_escaped():
    evil = '"><script>alert(1)</script>&'
    text = landing_page(run_of({evil: HeadMeasurement(1.0)}, run_id=evil).snapshot(), NOW)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") >= 3


def test_before_the_first_update_it_waits():
    text = landing_page(SanctumAggregator(Heads.of({"op": 6}), RunInfo("fresh")).snapshot(), NOW)
    assert "for the first update; heads: op" in text
    assert "<table" not in text
    assert "0.000" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


def test_forty_heads_scroll():
    page = Page(landing_page(many_heads(40).snapshot(), NOW))
    assert len(page.rows[0]) == 41
    assert ("div", {"class": "scroll"}) in page.tags
