"""Grafana's pages in headless Chromium: what a person would see go wrong."""

import shutil
import time
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

PANEL = "section[data-testid^='data-testid Panel header']"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
LOOK = """() => [...document.querySelectorAll("section[data-testid^='data-testid Panel header']")].map(s => ({
  title: s.getAttribute('data-testid').replace('data-testid Panel header ', ''),
  loading: !!s.querySelector('[aria-label="Panel loading bar"]'),
  error: !!s.querySelector('[data-testid="data-testid Panel status error"]'),
  nodata: s.querySelector('[data-testid="data-testid Panel data error message"]')?.innerText ?? '',
  text: s.innerText,
  right: Math.round(s.getBoundingClientRect().right),
}))"""

DOCKED = "localStorage.setItem('grafana.navigation.docked', 'true');"
"""Grafana's navigation as it is for everybody who has not closed it."""

CLIPPED = """() => {
  const found = new Set();
  const clips = element => ['hidden', 'clip'].includes(getComputedStyle(element).overflowX);
  for (const panel of document.querySelectorAll("section[data-testid^='data-testid Panel header']")) {
    const title = panel.getAttribute('data-testid').replace('data-testid Panel header ', '');
    for (const element of panel.querySelectorAll('*')) {
      const text = [...element.childNodes].filter(n => n.nodeType === 3 && n.textContent.trim());
      const box = element.getBoundingClientRect();
      if (!text.length || !box.width || getComputedStyle(element).visibility === 'hidden') continue;
      if (clips(element) && element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
        found.add(`${title}: ${element.textContent}`);
      for (let outer = element.parentElement; outer && outer !== panel; outer = outer.parentElement) {
        const edge = outer.getBoundingClientRect();
        if (clips(outer) && (box.right > edge.right + 2 || box.left < edge.left - 2)) {
          found.add(`${title}: ${element.textContent}`);
          break;
        }
      }
    }
  }
  return [...found];
}"""
"""Texts of panels that do not fit: wider than their element, or beyond the edge of one that cuts off."""


def chromium():
    """A Chromium or Chrome on the path, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


class Visit:
    """One dashboard, opened and settled: its panels, and everything that failed."""

    def __init__(self, page):
        self.page = page
        self.failures = []
        self.panels = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.failures.append(f"page error: {error}"))
        page.on("response", self._response)

    def _console(self, message):
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.failures.append(f"console: {message.text[:300]}")

    def _response(self, response):
        if response.status >= 400 and "/api/user/stars" not in response.url:
            self.failures.append(f"{response.status} {response.url[:200]}")
        if "/api/ds/query" in response.url:
            try:
                results = response.json().get("results", {})
            except Exception:  # noqa: BLE001 - the page went on before the body came
                return
            self.failures += [
                f"query {ref}: {result['error']}" for ref, result in results.items() if "error" in result
            ]

    def open(self, url, seconds):
        """Open a page; it has settled when no panel loads and nothing changes for a while."""
        self.page.goto(url, wait_until="domcontentloaded")
        deadline, seen, since = time.monotonic() + seconds, None, time.monotonic()
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(250)
            self.panels = self.page.evaluate(LOOK)
            state = [(panel["title"], panel["loading"], panel["nodata"]) for panel in self.panels]
            if state != seen or not state or any(panel["loading"] for panel in self.panels):
                seen, since = state, time.monotonic()
            elif time.monotonic() - since > 2:
                return self
        self.failures.append(
            f"never settled: {[p['title'] for p in self.panels if p['loading']] or 'no panel'}"
        )
        return self

    def clipped(self):
        """Texts that are cut off."""
        return self.page.evaluate(CLIPPED)

    def problems(self):
        """Everything wrong with the page."""
        errors = [f"panel error: {panel['title']}" for panel in self.panels if panel["error"]]
        return [*self.failures, *errors]


@contextmanager
def browser(executable, height=3000, seconds=60):
    """A function that opens pages one after the other; the viewport is tall, so that every panel loads.

    ``docked``: with Grafana's navigation beside the page.
    """
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=OPTIONS)

        def visit(url, width=1600, docked=False):
            page = opened.new_page(viewport={"width": width, "height": height})
            if docked:
                page.add_init_script(DOCKED)
            return Visit(page).open(url, seconds)

        yield visit
        opened.close()
