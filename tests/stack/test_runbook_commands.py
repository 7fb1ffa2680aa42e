"""Every command and every query of the runbooks and of docs/alerts.md, as printed, on the real servers and real runs.

Only what the page tells its reader to replace is replaced, and the addresses of the servers.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from stack.processes import answers, free_address
from tests.alerts.test_runbooks import ELSEWHERE
from tests.support.page_commands import everything, found_on
from tests.support.servers import get, query
from tests.support.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

BIN = Path(sys.executable).parent
OPTIONS = "--env heads --num-envs 8 --rollout-steps 8 --listen 127.0.0.1:0 --linger 0 --quiet --updates"
INLINE = {  # what a sentence abbreviates
    "amtool check-config": "amtool check-config alerts/alertmanager.yml",
    "rl-exporter pages": "rl-exporter pages --listen",
    "rl-exporter bundle --page-on level": "rl-exporter bundle --page-on level --out level",
    "rl-exporter bundle --receiver KIND": "rl-exporter bundle --receiver slack --out slack",
}
TESTED_ELSEWHERE = {
    "make drill": "tests/stack/test_drill.py",
    "promtool test rules alerts/tests/*.yml": "tests/alerts/test_rules.py",
}
STATUS = {"watch": {0, 1, 2}}
"""Where a status is a verdict, not an error."""

ABSENT = {  # metrics without a series in healthy runs, and why
    "rl_policy_head_condition_since_timestamp_seconds": "no head is in a condition",
    "rl_exporter_dropped_values_total": "no value was impossible",
    "rl_policy_head_controller_saturated_updates": "no head has an entropy controller",
    "rl_policy_head_entropy_coefficient_applied": "no head has an entropy controller",
    "rl_policy_head_entropy_target_ratio": "no head has an entropy controller",
    "rl_policy_head_interventions_total": "no head has an entropy controller",
}
METRIC = re.compile(r"\b(?:head:)?(?:rl|process|prometheus|alertmanager)_\w+(?::\w+)*")
EACH = list({each.text: each for each in everything()}.values())
"""What several pages print alike is run once."""

QUERIES = [each for each in EACH if each.kind == "promql"]
COMMANDS = [
    each for each in EACH if each.kind != "promql" and each.text not in ELSEWHERE | TESTED_ELSEWHERE.keys()
]


def named(each):
    return f"{each.page.stem}: {each.text[:60]}"


@pytest.fixture(scope="module")
def place(world, promtool, amtool, tmp_path_factory):
    """A shell of somebody on call: the bundle is the working directory, the tools are on the PATH."""
    folder = tmp_path_factory.mktemp("on-call")
    tools = folder / "bin"
    tools.mkdir()
    for name, path in {"promtool": promtool, "amtool": amtool}.items():
        (tools / name).symlink_to(path)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(tools), str(BIN), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }
    (folder / "secret").write_text("secret\n")
    shell = SimpleNamespace(folder=folder / "shell", environment=environment, world=world, updates=3)
    shell.folder.mkdir()
    run(shell, "cd .. && rl-exporter bundle --out shell")
    run(shell, f"rl-train {OPTIONS} 3 --checkpoint state")
    return shell


def run(place, command, expected=frozenset({0})):
    done = subprocess.run(
        ["bash", "-c", command], cwd=place.folder, env=place.environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode in expected, f"{command}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def instance(world):
    (row,) = query(world.server, 'last_over_time(rl_training_updates_total{run_id="run-1"}[5m])')
    return row["metric"]["instance"]


def filled(each, place):
    stack = place.world.stack
    replacements = {
        "127.0.0.1:9093": stack.alertmanager,
        "/etc/rl/pages-secret": str(place.folder.parent / "secret"),
        "RUN": "run-1",
        "HEAD": "op",
        "INSTANCE": instance(place.world),
        "OPTIONS": f"{OPTIONS} {place.updates + 1}",
        "DIR": "state",
        "TARGETS": str(stack.folder / "prometheus/targets"),
    }
    text = INLINE.get(each.text, each.text)
    for name, value in replacements.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize("each", QUERIES, ids=named)
def test_a_query_of_a_page_is_answered_from_metrics_that_exist(each, place):
    text = filled(each, place)
    for metric in METRIC.findall(text):
        assert metric in ABSENT or query(place.world.server, f"last_over_time({metric}[5m])"), (
            f"no series of {metric}"
        )
    # Prometheus answers 400 to what it cannot parse or evaluate, and that raises.
    get(f"http://{place.world.server}/api/v1/query?{urllib.parse.urlencode({'query': text})}")


@pytest.mark.parametrize("each", [c for c in COMMANDS if "pages" not in c.text.split()[:2]], ids=named)
def test_a_command_of_a_page_does_what_it_says(each, place):
    command = filled(each, place)
    words = shlex.split(command)
    out = run(place, command, STATUS.get(words[1], {0}))
    if words[0] == "rl-train":
        place.updates += 1
        assert (place.folder / "state/checkpoint.pt").stat().st_size
    if "silence" in words:
        assert_silenced(
            place, out.strip(), dict(word.split("=", 1) for word in words if "=" in word and "--" not in word)
        )
    if "query" in words:
        assert "RLMonitoringWatchdog" in out
    if "routes" in words:
        assert out.strip() == "watchdog"
    if "watch" in words:
        assert "op" in out


def assert_silenced(place, silence, matchers):
    """Alertmanager has this silence, of these labels; and it goes, so that the next one is a new one."""
    url = f"http://{place.world.stack.alertmanager}/api/v2/silence/{silence}"
    found = json.loads(get(url))
    assert {each["name"]: each["value"] for each in found["matchers"]} == matchers
    assert found["status"]["state"] in {"active", "pending"}
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()


@pytest.mark.parametrize("each", [c for c in COMMANDS if "pages" in c.text.split()[:2]], ids=named)
def test_a_receiver_of_a_page_listens_until_it_is_told_to_stop(each, place):
    address = free_address()
    command = filled(each, place).removesuffix(" --listen") + f" --listen {address}"
    with subprocess.Popen(shlex.split(command), env=place.environment, stdout=subprocess.DEVNULL) as pages:
        until(lambda: answers(f"http://{address}/-/healthy"))
        pages.send_signal(signal.SIGTERM)
        assert pages.wait(30) in {0, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT}


def test_a_silence_needs_a_comment(place):
    """What the runbook once printed: proof that these tests can fail."""
    command = f"amtool --alertmanager.url=http://{place.world.stack.alertmanager} silence add alertname=RLTrainingFailed"
    run(place, command, {1})


def test_nothing_is_left_out():
    assert len(QUERIES) > 50
    assert len(COMMANDS) > 15
    for path in TESTED_ELSEWHERE.values():
        assert Path(path).name in {found.name for found in Path(__file__).parents[1].rglob("test_*.py")}
    assert found_on(QUERIES[0].page)
