"""Agent, remote write, VictoriaMetrics and vmalert with the shipped files: the same pages, and nothing lost.

Every interval is a tenth, but the store is away for two real minutes.
"""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from types import SimpleNamespace

import pytest

import rl_exporter
from stack.drill import DRILL
from stack.processes import Binaries, Stack, free_address
from stack.scale_out import COMMANDS, ScaleOut
from tests.support import ROOT
from tests.support.servers import get, query
from tests.support.waiting import until, until_equal

AWAY_SECONDS = 120
UPDATES = 100
"""The drill goes on for long enough to be still collapsed when the store goes away, and ends meanwhile."""

COLLAPSED = 'ALERTS{alertname="RLPolicyHeadCollapsed", alertstate="firing"}'
REPORTED = 5
"""Series that an agent adds to each scrape: up, and what the scrape was like."""

SCRAPES = "rl_exporter_render_duration_seconds_count"
"""How often the exporter was scraped before: one more in every scrape."""


def exported(store, selector):
    """Every sample in the store: name, value and time in milliseconds."""
    url = f"http://{store}/api/v1/export?{urllib.parse.urlencode({'match[]': selector})}"
    for line in get(url).splitlines():
        series = json.loads(line)
        for value, stamp in zip(series["values"], series["timestamps"], strict=True):
            yield series["metric"]["__name__"], value, stamp


def lost(samples):
    """Scrapes that the exporter answered and the store lacks, and those of which it lacks a sample."""
    samples = list(samples)
    counted = sorted(value for name, value, _ in samples if name == SCRAPES and value is not None)
    missing = set(range(int(counted[0]), int(counted[-1]))) - set(counted)
    held = Counter(stamp for _, value, stamp in samples if value is not None)
    scraped = {stamp: value for name, value, stamp in samples if name == "scrape_samples_scraped" and value}
    return missing, {stamp for stamp, value in scraped.items() if held[stamp] != value + REPORTED}


@pytest.fixture(scope="module")
def binaries(prometheus, vmalert):
    return {"prometheus": prometheus, "store": vmalert.parent / "victoria-metrics", "vmalert": vmalert}


def alerts(stack):
    return json.loads(get(f"http://{stack.alertmanager}/api/v2/alerts"))


def paged(stack):
    """The page about the drill, if Alertmanager has it."""
    wanted = {"alertname": "RLPolicyHeadCollapsed", "run_id": "drill", "head": "blueprint", "cluster": "lab"}
    return [alert for alert in alerts(stack) if wanted.items() <= alert["labels"].items()]


def healthy(stop):
    """A run of one healthy head that is updated until ``stop`` is set, and then completes."""
    run = rl_exporter.serve({"arm": 4}, run_id="counted", listen="127.0.0.1:0", linger=30)

    def work():
        while not stop.wait(0.5):
            run.record({"arm": 1.1}, choice_entropy={"arm": 0.8}, choice_share={"arm": 0.5})

    threading.Thread(target=work, daemon=True).start()
    return run


@pytest.fixture(scope="module")
def story(binaries, alertmanager, tmp_path_factory):
    """A drill pages; the store goes away; the drill ends; the store comes back, and another run ends."""
    folder = tmp_path_factory.mktemp("scale-out")
    servers = Binaries(prometheus=binaries["prometheus"], alertmanager=alertmanager)
    stop = threading.Event()
    with Stack(folder, servers, faster=10) as stack:
        out = ScaleOut.beside(stack, **binaries)
        stack.start_pages()
        stack.start_alertmanager()
        first = out.start("store")
        out.start("agent")
        out.start("vmalert")
        counted, address, store = healthy(stop), free_address(), out.addresses["store"]
        instance = counted.url.removeprefix("http://")
        stack.list_target("counted", instance)
        drill = stack.list_target("drill", address)
        command = (*DRILL, "--updates", str(UPDATES), "--pace", "0.4", "--listen", address, "--quiet")
        trainer = stack.start("trainer", sys.executable, "-m", "rl_training", *command).popen
        page = until(lambda: paged(stack))
        until(lambda: query(store, f"count_over_time({COLLAPSED}[5m])"))
        first.popen.terminate()
        first.popen.wait()
        left = time.time()
        assert trainer.wait(300) == 0
        drill.unlink()
        time.sleep(max(0, left + AWAY_SECONDS - time.time()))
        out.start("store")
        back = time.time()
        own = f'{{instance="{instance}"}}'
        until(lambda: max(stamp for *_, stamp in exported(store, own)) > back * 1000)
        until(lambda: not any(lost(exported(store, own))), 30)
        until(lambda: not paged(stack))
        stop.set()
        counted.close()
        (stack.folder / "prometheus/targets/counted.json").unlink()
        until(
            lambda: query(
                store, 'last_over_time(rl_training_run_state{run_id="counted",state="completed"}[5m]) == 1'
            )
        )
        time.sleep(8)  # more than any alert on an end of a run waits for, at a tenth
        yield SimpleNamespace(
            stack=stack, store=store, page=page, left=left, back=back, instance=instance, folder=stack.folder
        )


@pytest.mark.stack
@pytest.mark.slow
def test_the_drill_pages_from_vmalert_with_the_same_text(story):
    said = story.page[0]["annotations"]
    assert said["summary"].startswith("Head blueprint of run drill has collapsed (effective entropy 0.")
    assert said["aggregate"].startswith("the total over all heads reads ")
    selected = "?var-cluster=lab&var-namespace=&var-run_id=drill&var-head=blueprint&from="
    assert re.search(rf"{re.escape(selected)}\d+&to=\d+$", said["dashboard_url"])


@pytest.mark.stack
@pytest.mark.slow
def test_nothing_is_lost_while_the_store_is_away(story):
    samples = list(exported(story.store, f'{{instance="{story.instance}"}}'))
    away = {stamp for *_, stamp in samples if story.left * 1000 < stamp < story.back * 1000}
    assert len(away) > 40
    assert lost(samples) == (set(), set())
    # The run that ended meanwhile was scraped to its end.
    final = 'last_over_time(rl_training_run_state{run_id="drill",state="completed"}[10m]) == 1'
    assert query(story.store, final)
    updates = query(story.store, 'last_over_time(rl_training_updates_total{run_id="drill"}[10m])')
    assert [float(found["value"][1]) for found in updates] == [UPDATES]


@pytest.mark.stack
@pytest.mark.slow
def test_a_clean_end_pages_nobody_and_the_rules_work(story):
    fired = query(story.store, 'count_over_time(ALERTS{alertstate="firing"}[10m])')
    names = {found["metric"]["alertname"] for found in fired}
    # Before the collapse the head falls fast; that is evaluated once a minute, so it may be seen or not.
    earlier = {"RLPolicyHeadEntropyLow", "RLPolicyHeadEntropyFallingFast"}
    # Nothing pays the collapsed head for a change: its gradient may stay below the limit of a dead one, or not.
    later = {"RLPolicyHeadDead"}
    assert names - earlier - later == {"RLPolicyHeadCollapsed", "RLMonitoringWatchdog"}
    assert {found["metric"].get("run_id") for found in fired} == {"drill", None}
    until_equal(
        lambda: [alert["labels"]["alertname"] for alert in alerts(story.stack)], ["RLMonitoringWatchdog"]
    )


def test_a_lost_scrape_and_a_lost_sample_are_seen():
    def scrape(number, stamp):
        return [(SCRAPES, number, stamp), ("scrape_samples_scraped", 2, stamp), *[("x", 1, stamp)] * 5]

    whole = [*scrape(4, 100), *scrape(5, 200), *scrape(6, 300)]
    assert lost(whole) == (set(), set())
    assert lost([*whole, (SCRAPES, None, 400)]) == (set(), set())  # a marker of staleness is no sample
    assert lost([sample for sample in whole if sample[2] != 200]) == ({5}, set())
    assert lost(whole[:-1]) == (set(), {300})


@pytest.mark.stack
def test_promtool_accepts_the_configuration_of_the_agent(promtool):
    command = [promtool, "check", "config", "--agent", ROOT / "prometheus/agent.yml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_documentation_shows_the_commands_that_are_tested():
    text = (ROOT / "docs/scale-out.md").read_text()
    assert [name for name, command in COMMANDS.items() if command not in text] == []
