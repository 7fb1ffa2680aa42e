"""From a real run to a page: trainer, Prometheus, Alertmanager and ``rl-exporter pages``, nothing faked.

The configuration is a copy with shorter intervals (see test_alertmanager.py for what else differs: addresses).
"""

import re
import signal
import sys

import pytest

from stack.drill import DRILL, HEALTHY_TWIN
from stack.processes import Binaries, Stack, free_address
from tests.support.servers import RULE_GROUPS, get, query
from tests.support.small_runs import SMALL_UPDATES
from tests.support.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FASTER = 15
VICTIM = (
    *("--env", "heads", *SMALL_UPDATES, "--updates", "100000"),
    *("--env-arg", "noise=20", "--learning-rate", "1e-5"),
)


class Pages:
    """What the receiver printed: one line for each new page or resolution."""

    def __init__(self, path):
        self._path = path

    def of(self, run):
        pattern = rf"^\d\d:\d\d:\d\d  ([A-Z]+)  .*\b[Rr]un {run}\b.*$"
        return [(found[1], found[0]) for found in re.finditer(pattern, self.text, flags=re.MULTILINE)]

    def words(self, run, about):
        return [word for word, line in self.of(run) if about in line]

    @property
    def text(self):
        return self._path.read_text()


VERDICT = r"has collapsed|is dead"
EVIDENCE = {"has collapsed": "effective entropy 0.", "is dead": "without entropy and gradient for "}
RUNBOOKS = {"has collapsed": "RLPolicyHeadCollapsed", "is dead": "RLPolicyHeadDead"}


@pytest.fixture
def stack(prometheus, alertmanager, tmp_path):
    with Stack(tmp_path, Binaries(prometheus=prometheus, alertmanager=alertmanager), faster=FASTER) as stack:
        yield stack


def train(stack, run, *options, pace):
    address = free_address()
    command = [sys.executable, "-m", "rl_training", *options, "--run-id", run, "--listen", address]
    process = stack.start(run, *command, "--quiet", "--pace", str(pace), "--linger", "30")
    return process.popen, stack.list_target(run, address, {"cluster": "lab"})


def test_a_collapse_pages_its_twin_does_not_and_a_killed_run_pages_once(stack):
    pages = Pages(stack.log_path("pages"))
    stack.start_pages()
    stack.start_alertmanager()
    stack.start_prometheus()
    # One after the other: two cores.
    killed, killed_entry = train(stack, "killed", *VICTIM, pace=0.5)
    lost, _ = train(stack, "lost", *VICTIM, pace=0.5)
    for run in ("killed", "lost"):
        until(lambda run=run: query(stack.prometheus, f'rl_training_updates_total{{run_id="{run}"}} > 1'))
    drill, _ = train(stack, "drill", *DRILL, pace=0.5)
    twin, _ = train(stack, "healthy-twin", *HEALTHY_TWIN, pace=0.5)

    for process in (killed, lost):
        process.send_signal(signal.SIGKILL)
    killed_entry.unlink()

    # A head that dies soon after it collapsed may only be said to be dead: that inhibits the other page.
    until(lambda: re.search(VERDICT, " ".join(line for _, line in pages.of("drill"))), seconds=150)
    verdict = re.search(VERDICT, " ".join(line for _, line in pages.of("drill")))[0]
    (paged,) = [line for _, line in pages.of("drill") if verdict in line]
    assert f"Head blueprint of run drill {verdict} ({EVIDENCE[verdict]}" in paged
    assert re.search(
        r"level critical; since \d\d:\d\d:\d\d \(\d+ .*the total over all heads reads \d\.\d\d nats", pages.text
    )
    assert f"http://{stack.pages}/runbooks/{RUNBOOKS[verdict]}" in pages.text
    of_the_head = "var-cluster=lab&var-namespace=&var-run_id=drill&var-head=blueprint"
    assert re.search(rf"/d/rl-heads\?{of_the_head}&from=\d{{13}}&to=\d{{13}}\s", pages.text)

    for link, name in re.findall(r"what to do: (http://\S+/(RL\w+))", pages.text):
        assert re.search(rf"<h1[^>]*>{name}</h1>", get(link))

    assert drill.wait(timeout=150) == 0
    assert twin.wait(timeout=150) == 0
    until(lambda: "RESOLVED" in pages.words("drill", verdict))

    for run, about in (("killed", "has vanished"), ("lost", "cannot be scraped")):
        until(lambda run=run, about=about: pages.words(run, about))

    assert pages.words("drill", verdict) == ["CRITICAL", "RESOLVED"]
    critical = {
        line.split("Head ")[1].split(" of run")[0] for word, line in pages.of("drill") if word == "CRITICAL"
    }
    assert critical == {"blueprint"}
    assert pages.of("healthy-twin") == []
    assert [word for word, _ in pages.of("killed") if word != "RESOLVED"] == ["CRITICAL"]
    assert "has vanished" in pages.of("killed")[0][1]
    assert [word for word, _ in pages.of("lost") if word != "RESOLVED"] == ["WARNING"]
    assert "cannot be scraped" in pages.of("lost")[0][1]
    # Nothing of the ended runs is firing any more.
    until(lambda: not query(stack.prometheus, 'ALERTS{alertstate="firing", run_id=~"drill|healthy-twin"}'))
    # The rules evaluate without failure, and what RLMonitoringRuleFailures reads is there.
    failures = query(stack.prometheus, 'prometheus_rule_evaluation_failures_total{rule_group=~".+;rl-.+"}')
    assert {row["metric"]["rule_group"].rpartition(";")[2] for row in failures} == RULE_GROUPS
    assert {row["value"][1] for row in failures} == {"0"}
    for metric in ("prometheus_notifications_errors_total", "alertmanager_notifications_failed_total"):
        until(lambda metric=metric: query(stack.prometheus, metric))
    until(lambda: query(stack.prometheus, "prometheus_notifications_alertmanagers_discovered == 1"))
    assert pages.text.count("The path from Prometheus to the pager works") == 1
