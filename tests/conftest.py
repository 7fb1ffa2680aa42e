"""Fixtures of the whole suite: the real servers, found or unpacked without root."""

import os
import threading
from pathlib import Path

import pytest

from local_stack.servers import MissingServerError, find_server


def server(binary, package):
    try:
        return find_server(binary, package, Path(os.environ.get("RL_TEST_SERVERS", ".servers")))
    except MissingServerError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        return pytest.skip(str(error))


@pytest.fixture(scope="session")
def prometheus():
    return server("prometheus", "prometheus")


@pytest.fixture(scope="session")
def promtool(prometheus):
    return prometheus.parent / "promtool"


@pytest.fixture(scope="session")
def alertmanager():
    return server("prometheus-alertmanager", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def amtool(alertmanager):
    return alertmanager.parent / "amtool"


@pytest.fixture(scope="session")
def vmalert():
    return server("vmalert", "victoria-metrics")


@pytest.fixture(scope="session", autouse=True)
def _no_thread_outlives_the_tests():
    """A thread that is no daemon and still runs would keep the process, and a user's job, from ending."""
    yield
    main = threading.main_thread()
    assert [thread for thread in threading.enumerate() if thread is not main and not thread.daemon] == []


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="write the golden files anew")
