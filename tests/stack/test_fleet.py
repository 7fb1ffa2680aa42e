"""The simulated fleet of the benchmark against a real Prometheus, and the parts that need none."""

import json
import re
import time
from dataclasses import replace

import pytest

from benchmarks.simulated_fleet.fleet import fleet
from benchmarks.simulated_fleet.history import _MODEL, _SELDOM, looked_back, past
from benchmarks.simulated_fleet.measurement import Measurement, Prometheus, interval_time
from benchmarks.simulated_fleet.push import write_past
from benchmarks.simulated_fleet.table import BEGIN, END, slopes, table, written
from rl_dashboards.pipeline_dashboard import SAMPLES
from stack.processes import Binaries, Stack
from tests.support import ROOT
from tests.support.servers import RULE_GROUPS, query
from tests.support.waiting import until

RUNS = 12
ROW = Measurement(
    runs=100,
    series=30_000,
    samples_per_second=2000,
    memory=200 * 2**20,
    cores=0.1,
    scrape_median=0.005,
    scrape_p99=0.02,
    rules=0.15,
    groups={},
    alerts=1,
    file_scan=0.001,
)


@pytest.mark.stack
@pytest.mark.slow
def test_every_simulated_run_is_a_whole_run_and_is_followed_by_another(prometheus, tmp_path):
    with Stack(tmp_path, Binaries(prometheus=prometheus), faster=10) as stack:
        targets = stack.folder / "prometheus/targets"
        with fleet(targets, RUNS, life=40):
            assert len(list(targets.glob("fleet-*.json"))) >= RUNS
            stack.start_prometheus()
            server = stack.prometheus
            # Lives are short here, so some runs are always between their start and their first update.
            judged = "count by (run_id) (last_over_time(head:rl_policy_effective_entropy:ratio[5m]))"
            until(lambda: len(query(server, judged)) >= RUNS)
            # Every series of every run that has been updated: as many as a run with eight heads has.
            scraped = '{job="rl-training", __name__!~".+:.+|ALERTS.*"}'
            series = f"count by (run_id) ({scraped}) and on (run_id) rl_policy_loss"
            counts = until(lambda: len(found := query(server, series)) >= RUNS // 2 and found)
            assert all(300 < float(count["value"][1]) <= SAMPLES for count in counts)
            # Runs that have learned their task are part of every real fleet, and what alerts about them cost is, too.
            settled = (
                'count by (run_id) (rl_policy_head_condition_since_timestamp_seconds{condition="settled"}) == 8'
            )
            until(lambda: query(server, settled))
            ended = 'count(last_over_time(rl_training_run_state{state=~"completed|interrupted"}[5m]) == 1) > 2'
            until(lambda: query(server, ended))
            until(lambda: len(query(server, "count by (run_id) (rl_training_run_info)")) >= RUNS)
            assert Prometheus(server).groups().keys() == RULE_GROUPS
        assert list(targets.iterdir()) == []


@pytest.mark.stack
@pytest.mark.slow
def test_the_past_is_there_when_prometheus_begins(prometheus, vmalert, tmp_path):
    targets = tmp_path / "prometheus/targets"
    with Stack(tmp_path, Binaries(prometheus=prometheus)) as stack:
        targets.mkdir(parents=True, exist_ok=True)
        (targets / "one.json").write_text('[{"targets": ["127.0.0.1:9"]}]')
        now = time.time()
        write_past(stack, prometheus, vmalert.parent / "vmagent", past(targets, 900, now))
        stack.start_prometheus()
        server = stack.prometheus
        starts = "count_over_time(rl_training_run_state{state='running'}[15m])"
        found = query(server, starts)
        assert 50 <= sum(float(count["value"][1]) for count in found) <= 61
        assert "one" in {count["metric"]["run_id"] for count in found}


def test_all_that_the_rules_look_back_on_has_a_past():
    selectors = {selector for selector in looked_back() if not re.match(_SELDOM, selector)}
    assert selectors == set(_MODEL)
    assert looked_back()['rl_training_run_state{state="running"}'] == 3600


def test_the_past_goes_forward_a_series_at_a_time(tmp_path):
    (tmp_path / "one.json").write_text('[{"targets": ["127.0.0.1:9"]}]')
    last = {}
    for part in past(tmp_path, 300, 1_000_000.0):
        for line in map(json.loads, part.splitlines()):
            assert len(line["values"]) == len(line["timestamps"]) > 0
            key = tuple(sorted(line["metric"].items()))
            assert line["timestamps"][0] > last.get(key, 0)
            last[key] = line["timestamps"][-1]
    assert len({dict(key)["run_id"] for key in last if "run_id" in dict(key)}) > 1


def test_the_table_is_written_between_its_markers():
    rows = [ROW, replace(ROW, runs=1100, rules=1.15, memory=1200 * 2**20, cores=1.1)]
    page = written(f"before\n{BEGIN}old\n{END}after\n", rows, "a machine")
    assert page.startswith(f"before\n{BEGIN}| runs |")
    assert page.endswith(f"a machine\n{END}after\n")
    assert "old" not in page
    assert "| 100 | 30,000 | 2,000 | 200 MiB | 0.10 cores | 5 and 20 ms | 0.15 s | 1.0% |\n" in table(rows)
    assert "Another thousand runs cost 1.00 s of rules an interval, 1,000 MiB and 1.00 cores." in slopes(rows)
    assert slopes(rows[:1]) == ""
    with pytest.raises(ValueError, match="put them where the table belongs"):
        written("no markers", rows, "")


def test_a_group_that_is_evaluated_once_a_minute_counts_a_quarter_in_an_interval():
    assert interval_time({"evaluationTime": 0.4, "interval": 15}) == pytest.approx(0.4)
    assert interval_time({"evaluationTime": 0.4, "interval": 60}) == pytest.approx(0.1)


def shares(page):
    """The share of the interval that rules take, by number of runs, as the page says."""
    rows = re.findall(r"^\| ([\d,]+) \|.*\| ([\d.]+)% \|$", page, flags=re.MULTILINE)
    return {int(runs.replace(",", "")): float(share) for runs, share in rows}


def test_the_page_says_that_a_thousand_runs_leave_most_of_the_interval():
    found = shares((ROOT / "docs/scale.md").read_text().partition(BEGIN)[2].partition(END)[0])
    assert found.keys() >= {100, 300, 1000}
    assert all(share < 16 for runs, share in found.items() if runs <= 1000)
    assert shares(table([ROW, replace(ROW, runs=1000, rules=1.6)])) == {100: 1.0, 1000: 10.7}
