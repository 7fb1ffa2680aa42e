"""``make pictures``: a head collapses before a real Grafana, which the documentation shows in pictures."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from stack.drill import DRILL, HEALTHY_TWIN
from stack.grafana import find_grafana
from stack.processes import Binaries, Stack, StackError, free_address
from stack.servers import MissingServerError, find_alertmanager, find_server

WIDTH, HEIGHT = 1600, 1000
PAGES_AFTER_SECONDS = 300
SHOWN_SECONDS = 60
"""How long the collapse lasts before the picture is taken, so that it shows what was before and after it."""

SETTLED_SECONDS = 12
"""Until every panel of a page has its data."""

PICTURES = {
    "dashboard-heads.png": "/d/rl-heads?from=now-4m&to=now&kiosk&var-run_id=drill",
    "dashboard-fleet.png": "/d/rl-fleet?from=now-4m&to=now&kiosk",
}


def main() -> int:
    """Entry point. Returns 0 if the pictures were taken, 2 if something that they need is missing."""
    options = _parser().parse_args()
    browser = which("chromium") or which("google-chrome")
    try:
        if not browser:
            raise MissingServerError("install chromium so that it is on PATH")
        binaries = Binaries(
            prometheus=find_server("prometheus", "prometheus", options.servers),
            alertmanager=find_alertmanager(options.servers),
            grafana=find_grafana(options.grafana_home),
        )
        with tempfile.TemporaryDirectory(prefix="rl-pictures-") as folder:
            _take(Path(folder), binaries, browser, options.out)
    except (MissingServerError, StackError) as error:
        sys.stderr.write(f"picture: error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="picture", allow_abbrev=False, description=__doc__)
    parser.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    parser.add_argument("--grafana-home", default=os.environ.get("GRAFANA_HOME"), help="a Grafana tree")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures")
    return parser


def _take(folder: Path, binaries: Binaries, browser: str, out: Path) -> None:
    with Stack(folder, binaries, faster=10) as stack:
        stack.start_pages()
        stack.start_alertmanager()
        stack.start_prometheus()
        stack.start_grafana()
        for run in (DRILL, HEALTHY_TWIN):
            _train(stack, run)
        _wait_for_page(stack.prometheus)
        time.sleep(SHOWN_SECONDS)
        photograph(browser, f"http://{stack.grafana}", out, PICTURES)


def _train(stack: Stack, run: tuple[str, ...]) -> None:
    address, name = free_address(), run[-1]
    pace = ("--pace", "1", "--listen", address, "--quiet", "--updates", "1000")
    stack.start(name, sys.executable, "-m", "rl_training", *run, *pace)
    stack.list_target(name, address, {"cluster": "lab"})


def _wait_for_page(prometheus: str) -> None:
    alert = 'ALERTS{alertname="RLPolicyHeadCollapsed", alertstate="firing"}'
    url = f"http://{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': alert})}"
    deadline = time.monotonic() + PAGES_AFTER_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(url, timeout=10) as response:
            if json.load(response)["data"]["result"]:
                return
        time.sleep(1)
    raise StackError(f"no head collapsed within {PAGES_AFTER_SECONDS} s")


def photograph(browser: str, grafana: str, out: Path, pictures: Mapping[str, str]) -> None:
    """Take a picture of each page of a Grafana, by file name."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of the extra dev

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for name, path in pictures.items():
            page.goto(grafana + path)
            page.wait_for_timeout(1000 * SETTLED_SECONDS)
            page.screenshot(path=out / name)
        opened.close()


if __name__ == "__main__":
    sys.exit(main())
