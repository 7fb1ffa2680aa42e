"""Fixtures of the whole suite: the real servers, found or unpacked without root."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from stack.servers import MissingServerError, find_alertmanager, find_server

# Several processes share the cores: with more threads in each, all wait for each other. Those that tests start inherit it.
# A program in Go spends a quarter of its time on finding work for its other threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMAXPROCS", "1")

# Mutants are to be seen; nobody reads a smallest example of them.
settings.register_profile("first-failure", phases=(Phase.explicit, Phase.generate))


LEARNING = Path(__file__).parent / "training/algorithm/test_learning.py"
STACK = Path(__file__).parent / "stack"


def pytest_collection_modifyitems(items):
    """Put the minutes of computing before the tests that wait for real servers: at the end a process would be alone."""
    learning = [item for item in items if item.path == LEARNING]
    others = [item for item in items if item.path != LEARNING]
    place = next((at for at, item in enumerate(others) if STACK in item.path.parents), len(others))
    items[:] = [*others[:place], *learning, *others[place:]]


def server(find, *names):
    folder = Path(os.environ.get("RL_TEST_SERVERS", ".servers"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes, and one of them unpacks
            return find(*names, folder)
    except MissingServerError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        return pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def folder_of_sb3(tmp_path_factory):
    """Each model of Stable-Baselines3 makes a folder for logs that nobody asked for, else in the temporary folder."""
    os.environ["SB3_LOGDIR"] = str(tmp_path_factory.mktemp("sb3"))


@pytest.fixture(scope="session")
def prometheus():
    return server(find_server, "prometheus", "prometheus")


@pytest.fixture(scope="session")
def promtool(prometheus):
    return prometheus.parent / "promtool"


@pytest.fixture(scope="session")
def alertmanager():
    return server(find_alertmanager)


@pytest.fixture(scope="session")
def amtool(alertmanager):
    return alertmanager.parent / "amtool"


@pytest.fixture(scope="session")
def vmalert():
    return server(find_server, "vmalert", "victoria-metrics")


@pytest.fixture(scope="session", autouse=True)
def _no_thread_outlives_the_tests():
    """A thread that is no daemon and still runs would keep the process, and a user's job, from ending."""
    yield
    main = threading.main_thread()
    assert [thread for thread in threading.enumerate() if thread is not main and not thread.daemon] == []


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="write the golden files anew")
