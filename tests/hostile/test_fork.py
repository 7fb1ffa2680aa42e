"""A forked child has its parent's sockets and memory; it must keep neither the port nor anybody waiting."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import rl_exporter
from rl_exporter.forks import let_go_of_port
from stack.processes import free_address
from tests.support.scraping import scrape
from tests.support.waiting import until

TRAINER = """
import multiprocessing, sys, threading, time
import rl_exporter

def worker():
    time.sleep(600)

heads = rl_exporter.serve({{"arm": 4}}, run_id="forks", listen={address!r}, linger=0)
heads.record(entropy={{"arm": 1.0}})
sys.stdin.readline()  # until the test has connected
{fork}
print(*pids, flush=True)
time.sleep(600)
"""
BY_MULTIPROCESSING = """
processes = [multiprocessing.get_context("fork").Process(target=worker, daemon=True) for _ in range(3)]
for process in processes:
    process.start()
pids = [process.pid for process in processes]
"""
BY_ASYNC_VECTOR_ENV = """
import gymnasium
vector = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
vector.reset(seed=0)
pids = [process.pid for process in vector.processes]
"""


@pytest.fixture
def trainer(request):
    """A run with forked workers and a scraper that keeps its connection; killed like the kernel does it."""
    address = free_address()
    program = TRAINER.format(address=address, fork=request.param)
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    scraper = http.client.HTTPConnection(address, timeout=10)
    workers = []
    try:
        until(lambda: scrape(f"http://{address}/metrics"))
        scraper.request("GET", "/metrics")
        scraper.getresponse().read()
        process.stdin.write(b"\n")
        process.stdin.flush()
        workers = [int(pid) for pid in process.stdout.readline().split()]
        yield process, address, scraper, workers
    finally:
        scraper.close()
        process.kill()
        for worker in workers:  # before communicate(), because they hold the pipe
            os.kill(worker, signal.SIGKILL)
        process.communicate()


EACH_KIND = pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(BY_MULTIPROCESSING, id="multiprocessing"),
        pytest.param(BY_ASYNC_VECTOR_ENV, id="AsyncVectorEnv", marks=pytest.mark.slow),
    ],
    indirect=True,
)


@EACH_KIND
def test_workers_that_outlive_a_killed_trainer_keep_neither_its_port_nor_its_scraper(trainer):
    process, address, scraper, workers = trainer
    scraper.request("GET", "/metrics")
    assert b"rl_policy_head_entropy_nats" in scraper.getresponse().read(), "the parent's connection lives on"
    process.kill()
    process.wait()
    for worker in workers:
        os.kill(worker, 0)  # they are alive
    assert scraper.sock.recv(1) == b"", "a connection that a worker held open would leave a scrape waiting"
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)
    with rl_exporter.serve({"arm": 4}, listen=address, linger=0) as again:
        assert "rl_policy_head" in scrape(again.url + "/metrics")


LEAVING = """
import json, os, pathlib, sys, threading, time, urllib.request, warnings
import rl_exporter

warnings.simplefilter("ignore")
folder = {folder!r}
children = []
with rl_exporter.serve({{"arm": 4}}, run_id="parent", listen="127.0.0.1:0", linger=60,
                       register=rl_exporter.Discovery(folder)) as heads:
    stop = threading.Event()

    def hammer(work):
        while not stop.is_set():
            work()

    busy = [lambda: heads.record(entropy={{"arm": 1.0}}), heads.snapshot, heads.count_record_error,
            lambda: urllib.request.urlopen(heads.url + "/metrics").read()]
    threads = [threading.Thread(target=hammer, args=(work,)) for work in busy]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):
            child = os.fork()
            if child == 0:
                heads.record(entropy={{"arm": 0.5}})
                heads.snapshot()
                heads.close(rl_exporter.RunState.FAILED)
                if number % 3 == 0:
                    heads._server.stop()
                    heads._identity.close()
                break  # out of the block, and on to the end of the interpreter
            children.append(child)
    finally:
        if child:
            heads._linger = 0  # a child would wait the 60 s
            stop.set()
            for thread in threads:
                thread.join()
    if child:
        deadline = time.monotonic() + 30
        left = {{}}
        while len(left) < len(children) and time.monotonic() < deadline:
            for pid in set(children) - set(left):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    left[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        for pid in set(children) - set(left):
            os.kill(pid, 9)
        print(json.dumps({{
            "children": sorted(left.values()),
            "state": str(heads.snapshot().run_state),
            "entries": [path.name for path in pathlib.Path(folder).iterdir()],
            "answers": "running" in urllib.request.urlopen(heads.url + "/metrics").read().decode(),
        }}), flush=True)
"""


@pytest.mark.slow
def test_children_that_leave_the_block_neither_hang_nor_end_the_run_of_their_parent(tmp_path):
    """15 children, forked while other threads hold locks and answer scrapes."""
    program = LEAVING.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "children": [0] * 15,
        "state": "running",
        "entries": ["parent.run.json"],
        "answers": True,
    }
    assert list(tmp_path.iterdir()) == []


def test_a_descriptor_that_was_let_go_stays_taken():
    """An object that closes it later must not close a file that has got the same number meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        port, number = listener.getsockname()[1], listener.fileno()
        let_go_of_port(port)
        assert os.path.samestat(os.fstat(number), Path(os.devnull).stat())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        socket.create_connection(other.getsockname(), timeout=10).close()


def test_a_server_that_has_stopped_is_none_of_a_childs_business():
    """Its port may be another program's by now."""
    recorder = rl_exporter.serve({"arm": 4}, listen="127.0.0.1:0", linger=0)
    server, port = recorder._server, recorder._server.address.port
    recorder.close()
    with socket.create_server(("127.0.0.1", port)) as listener:
        server._let_go()
        socket.create_connection(listener.getsockname(), timeout=10).close()


def test_the_run_still_answers_after_a_child_has_come_and_gone(recwarn):
    with rl_exporter.serve({"arm": 4}, listen="127.0.0.1:0", linger=0) as heads:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert "rl_policy_head" in urllib.request.urlopen(heads.url + "/metrics", timeout=10).read().decode()


def test_a_child_closes_a_registration_whatever_its_parents_thread_held(tmp_path, recwarn):
    entry = rl_exporter.Discovery(tmp_path).register("run")
    registration = entry.registration
    with registration._closed._cond:  # as the heartbeat does for a moment
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                registration.close()
            finally:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.run.json"]
    registration.close()
    assert list(tmp_path.iterdir()) == []
