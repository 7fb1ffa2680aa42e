"""Starting ranks as a user does, with torchrun or by hand, and looking at what rank 0 says."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from stack.processes import free_address
from tests.support import ROOT
from tests.support.waiting import until

PROMETHEUS = {"X-Prometheus-Scrape-Timeout-Seconds": "5", "User-Agent": "test"}
PATIENCE = 180


def ranks_of(launcher):
    """Process ids of the ranks that a launcher has started, by rank."""
    found = {}
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(entry[5:]): int(pid) for entry in variables if entry.startswith(b"RANK=")}
    return found


def _python_path():
    former = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), former] if former else [str(ROOT)])


class Scraper:
    """Asks rank 0 for /metrics as Prometheus does, and remembers every state that it has seen."""

    def __init__(self, address):
        self.address = address
        self.seen = []

    def metrics(self):
        request = urllib.request.Request(f"http://{self.address}/metrics", headers=PROMETHEUS)
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read().decode()
        state = re.search(r'^rl_training_run_state{.*state="(\w+)"} 1', text, re.MULTILINE).group(1)
        if state not in self.seen:
            self.seen.append(state)
        return text

    def value(self, name):
        return float(re.search(rf"^{name}{{.*}} (\S+)", self.metrics(), re.MULTILINE).group(1))

    def until_updates(self, number):
        until(lambda: self.value("rl_training_updates_total") >= number, PATIENCE)

    def until_state(self, state):
        until(lambda: self.metrics() and state in self.seen, PATIENCE)


class Started:
    """Starts processes, which end with the test, whatever happens, and so do the ranks that they have started."""

    def __init__(self, folder):
        self._folder = folder
        self._processes = []

    def torchrun(self, ranks, *arguments):
        command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, *arguments)
        return self._start(command, {})

    def by_hand(self, ranks, *arguments):
        place = {
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_address().partition(":")[2],
        }
        return [self._start(arguments, {**place, "RANK": str(rank)}) for rank in range(ranks)]

    def _start(self, arguments, variables):
        number = len(self._processes)
        streams = [(self._folder / f"{number}.{name}").open("w+") for name in ("out", "err")]
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _python_path(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
        )
        self._processes.append((process, streams))
        return process

    def said(self, process):
        """What the process has written to stdout and stderr."""
        streams = next(streams for started, streams in self._processes if started is process)
        return tuple(Path(stream.name).read_text() for stream in streams)

    def end(self, process, scraper=None):
        """Exit status, scraping meanwhile; fails with what the process said when it does not end."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline, f"still there; it said {self.said(process)}"
            time.sleep(0.2)
            with suppress(OSError, HTTPException):
                _ = scraper and scraper.metrics()
        return process.returncode

    def close(self):
        for process, streams in self._processes:
            if process.poll() is None:
                for pid in ranks_of(process.pid).values():
                    os.kill(pid, signal.SIGKILL)
                process.kill()
                process.wait()
            for stream in streams:
                stream.close()
