"""The eyes of the Grafana test: what is wrong on a page is seen, and a page that is in order passes."""

import http.server
import threading

import pytest

from tests.support.browser import browser, chromium

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(chromium() is None, reason="no browser: install chromium so that it is on PATH"),
]
PANEL = "<section data-testid='data-testid Panel header Return'>12.5{}</section>"
PAGES = {
    "/good": PANEL.format(""),
    "/empty": "<p>nothing</p>",
    "/error": PANEL.format("<i data-testid='data-testid Panel status error'></i>"),
    "/loading": PANEL.format("<i aria-label='Panel loading bar'></i>"),
    "/console": PANEL.format("") + "<script>console.error('broken')</script>",
    "/throws": PANEL.format("") + "<script>throw new Error('broken')</script>",
    "/missing": PANEL.format("") + "<img src='/nothing.png'>",
    "/cut": PANEL.format("<b style='display: block; width: 30px; overflow: hidden'>deterministic</b>"),
    "/beyond": PANEL.format("<i style='display: block; width: 30px; overflow: clip'><b>deterministic</b></i>"),
    "/fits": PANEL.format("<b style='display: block; width: 300px; overflow: hidden'>deterministic</b>"),
    "/query": PANEL.format("") + "<script>fetch('/api/ds/query')</script>",
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        json = '{"results": {"A": {"error": "parse error"}}}' if self.path == "/api/ds/query" else None
        text = json or PAGES.get(self.path) or ("" if self.path == "/favicon.ico" else None)
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "application/json" if json else "text/html")
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_):
        return


@pytest.fixture(scope="module")
def visited():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with browser(chromium(), seconds=4) as visit:
        yield lambda path: visit(f"http://127.0.0.1:{server.server_port}{path}")
    server.shutdown()
    server.server_close()


@pytest.fixture
def problems(visited):
    return lambda path: visited(path).problems()


@pytest.mark.parametrize(
    ("path", "cut"), [("/cut", True), ("/beyond", True), ("/fits", False), ("/good", False)]
)
def test_a_text_that_is_cut_off_is_seen(visited, path, cut):
    assert visited(path).clipped() == (["Return: deterministic"] if cut else [])


def test_a_page_in_order_has_no_problem(problems):
    assert problems("/good") == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/error", "panel error: Return"),
        ("/loading", "never settled: ['Return']"),
        ("/empty", "never settled: no panel"),
        ("/console", "console: broken"),
        ("/throws", "page error: broken"),
        ("/missing", "404 "),
        ("/query", "query A: parse error"),
    ],
)
def test_what_is_wrong_is_seen(problems, path, said):
    assert any(problem.startswith(said) for problem in problems(path))
