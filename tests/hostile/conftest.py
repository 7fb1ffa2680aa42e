"""A file system that is really full, for the tests of whatever writes files, and what other tests share."""

import atexit
import resource
import shutil
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from rl_exporter import HeadRecorder, Heads, MetricsServer, RunInfo, SanctumAggregator
from tests.support.certificates import Certificates


class SmallFileSystem:
    """A tmpfs of eight MiB, which a large file fills."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def full(self):
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        try:
            yield
        finally:
            filler.unlink()


class SmallFiles:
    """Any file system, on which no file of this process may grow any more."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def full(self):
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, former[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)


@contextmanager
def mounted(folder, size="8m"):
    """A tmpfs at ``folder``; the test is skipped where it may not be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["tmpfs", "size limit"])
def disk(request, tmp_path):
    """``disk.full()`` is a block in which nothing more can be written below ``disk.folder``."""
    if request.param == "size limit":
        yield SmallFiles(tmp_path)
        return
    with mounted(tmp_path / "disk") as folder:
        yield SmallFileSystem(folder)


@pytest.fixture
def tmpfs(tmp_path):
    """The same, on a tmpfs only."""
    with mounted(tmp_path / "disk") as folder:
        yield SmallFileSystem(folder)


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
def attentive(monkeypatch):
    """Changes of files are seen at once."""
    monkeypatch.setattr("rl_exporter.server.live_config._LOOK_SECONDS", 0.0)


@pytest.fixture
def heads():
    """A recorder whose server never starts: these tests read the snapshot, and are many."""
    aggregator = SanctumAggregator(Heads.of({"arm": 9, "grip": 3}), RunInfo("values"))
    recorder = HeadRecorder(aggregator, MetricsServer(aggregator.snapshot), linger=0)
    yield recorder
    atexit.unregister(recorder._end_with_interpreter)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack
