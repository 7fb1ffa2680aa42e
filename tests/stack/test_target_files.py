"""A thousand entries, written and removed by many processes at once, for a reader and a real Prometheus."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.parse
from types import SimpleNamespace

import pytest

from rl_exporter.cli.main import main as exporter
from rl_exporter.discovery.entry import entry_path
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups, replace_file
from rl_exporter.discovery.labels import check_labels
from rl_exporter.discovery.registration import Registration
from stack.scale_out import knows_agent
from tests.support.one_prometheus import prometheus_in
from tests.support.servers import get
from tests.support.waiting import until

pytestmark = pytest.mark.stack

WRITERS, ENTRIES, KEPT = 8, 125, 5

WRITER = """
import os, random, sys
from pathlib import Path
from rl_exporter.discovery.registration import claim
directory, name, entries, kept = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance, alive = random.Random(name), []
print("ready", flush=True)
sys.stdin.readline()
for number in range(entries):
    entry = claim(directory, [f"{name}-{number}"], {"cluster": "lab", "padding": "x" * 5000})
    entry.publish(f"127.0.0.1:{10000 + int(name) * 1000 + number}")
    alive.append(entry)
    print(number, flush=True)
    if len(alive) > kept:
        alive.pop(chance.randrange(len(alive))).close()
os._exit(0)
"""


@pytest.fixture(scope="module")
def server(prometheus, tmp_path_factory):
    """Prometheus on a directory of targets, which it learns of by watching it alone."""
    folder = tmp_path_factory.mktemp("files")
    directory = folder / "targets"
    directory.mkdir()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1h}\n"
        "scrape_configs:\n"
        "  - {job_name: rl, file_sd_configs: [{files: [targets/*.json], refresh_interval: 1h}]}\n"
    )
    with prometheus_in(prometheus, folder) as address:
        yield SimpleNamespace(address=address, directory=directory, log=folder / "log")


def discovered(server):
    """What Prometheus knows of the job: labels of its targets."""
    encoded = urllib.parse.urlencode({"state": "active"})
    active = json.loads(get(f"http://{server.address}/api/v1/targets?{encoded}"))["data"]["activeTargets"]
    return [target["labels"] for target in active if target["labels"]["job"] == "rl"]


def broken_files(server):
    """What Prometheus found wrong with target files, but for those that went away before they were read."""
    lines = server.log.read_text().splitlines()
    return [line for line in lines if "Error reading file" in line and "no such file or directory" not in line]


def read_all(directory, problems):
    """Read every file that discovery would, as Prometheus does."""
    for path in directory.glob("*.json"):
        try:
            ((group,), mode) = json.loads(path.read_bytes()), stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except ValueError as error:
            problems.append((path.name, str(error)))
            continue
        if group["labels"]["cluster"] != "lab" or len(group["targets"]) > 1 or mode != 0o644:
            problems.append((path.name, group, mode))


def test_no_reader_ever_sees_a_broken_file_and_prometheus_ends_up_with_the_runs_that_live(server, capsys):
    command = [sys.executable, "-c", WRITER, server.directory]
    writers = [
        subprocess.Popen([*command, str(number), str(ENTRIES), str(KEPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(WRITERS)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    problems, reads = [], 0
    while any(writer.poll() is None for writer in writers):
        read_all(server.directory, problems)
        reads += 1
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    written = sum(len(writer.communicate()[0].split()) for writer in writers)
    assert written == WRITERS * ENTRIES == 1000
    assert problems == []
    assert reads > 5
    left = sorted(path.name for path in server.directory.iterdir())
    assert len(left) == WRITERS * KEPT
    assert all(name.endswith(".run.json") for name in left)
    listed = {json.loads((server.directory / name).read_text())[0]["targets"][0] for name in left}
    until(lambda: {labels["instance"] for labels in discovered(server)} == listed)
    assert broken_files(server) == []

    assert exporter(["targets", "prune", str(server.directory), "--older-than", "0", "--timeout", "5"]) == 0
    assert capsys.readouterr().out.count("removed ") == WRITERS * KEPT
    until(lambda: discovered(server) == [])
    assert list(server.directory.iterdir()) == []


def test_writers_that_are_killed_leave_whole_files(server):
    command = [sys.executable, "-c", WRITER, server.directory, "9", "100000", str(KEPT)]
    problems = []
    for number in range(4):
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
        for _ in range(2 + 5 * number):
            writer.stdout.readline()
            read_all(server.directory, problems)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        read_all(server.directory, problems)
        for path in server.directory.glob("*.json"):
            path.unlink()
    assert problems == []
    assert broken_files(server) == []


def test_these_checks_see_a_broken_file(server):
    (server.directory / "half.json").write_text('[{"targets": ["a:1"], "lab')
    problems = []
    read_all(server.directory, problems)
    assert [name for name, _ in problems] == ["half.json"]
    until(lambda: broken_files(server))
    (server.directory / "half.json").unlink()


@pytest.mark.parametrize("name", ["1a", "a-b", ""])
def test_a_label_name_that_is_refused_is_one_that_prometheus_rejects(name, server, prometheus):
    with pytest.raises(ValueError, match="is not possible"):
        check_labels({name: "x"})
    if name and knows_agent(prometheus):
        return  # Prometheus 3 takes it; a store or a ruler that takes its series may not
    before = len(broken_files(server))
    path = server.directory / "label.json"
    replace_file(path, dump_groups(TargetGroup(["127.0.0.1:1"], {name: "x"})))
    until(lambda: len(broken_files(server)) > before)
    assert discovered(server) == []
    path.unlink()


def scans(server):
    """How often Prometheus has read the directory."""
    body = get(f"http://{server.address}/metrics")
    return int(re.search(r"^prometheus_sd_file_scan_duration_seconds_count (\d+)", body, re.MULTILINE)[1])


def settled_scans(server):
    """How often, once the events of the last write have all arrived; None while the number grows."""
    before = scans(server)
    time.sleep(1)
    return before if scans(server) == before else None


def test_a_heartbeat_costs_prometheus_nothing_and_a_rewrite_would(server):
    path = entry_path(server.directory, "a", {})
    content = dump_groups(TargetGroup(["127.0.0.1:1"], {}))
    replace_file(path, content)
    until(lambda: discovered(server))
    before = until(lambda: settled_scans(server))
    entry = Registration(path, "a", {}, heartbeat=0.01)
    entry._content = content
    for _ in range(20):
        os.utime(path, (1, 1))
        until(lambda: path.stat().st_mtime > 1)
    assert scans(server) == before
    replace_file(path, content)
    until(lambda: scans(server) > before)
    entry.close()
    until(lambda: discovered(server) == [])
