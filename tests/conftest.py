"""Fixtures of the whole suite: the real servers, found or unpacked without root."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest


def _unpack(package, folder):
    folder.mkdir(parents=True, exist_ok=True)
    options = []
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::State::lists={lists}"]
        subprocess.run(["apt-get", *options, "update"], check=True, capture_output=True, cwd=folder)
    subprocess.run(["apt-get", *options, "download", package], check=True, capture_output=True, cwd=folder)
    for archive in folder.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg", "-x", archive, folder], check=True, capture_output=True)
        archive.unlink()


def server(binary, package):
    found = shutil.which(binary)
    if found:
        return Path(found)
    folder = Path(os.environ.get("RL_TEST_SERVERS", ".servers")).absolute()
    unpacked = folder / "usr/bin" / binary
    reason = f"install {binary} (package {package}) so that it is on PATH"
    if not unpacked.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        try:
            _unpack(package, folder)
        except subprocess.CalledProcessError as error:
            reason += f"; apt-get said: {error.stderr.decode(errors='replace').strip()[-200:]}"
    if unpacked.exists():
        return unpacked
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    return pytest.skip(reason)


@pytest.fixture(scope="session")
def prometheus():
    return server("prometheus", "prometheus")


@pytest.fixture(scope="session")
def promtool(prometheus):
    return prometheus.parent / "promtool"


@pytest.fixture(scope="session", autouse=True)
def _no_thread_outlives_the_tests():
    """A thread that is no daemon and still runs would keep the process, and a user's job, from ending."""
    yield
    main = threading.main_thread()
    assert [thread for thread in threading.enumerate() if thread is not main and not thread.daemon] == []


def pytest_addoption(parser):
    parser.addoption("--golden", action="store_true", help="write the golden files anew")
