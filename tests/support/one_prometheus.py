"""A Prometheus on a folder of its own, without rules and without a stack around it."""

import subprocess
from contextlib import contextmanager

import yaml

from stack.processes import Process, answers, free_address


@contextmanager
def prometheus_with(binary, folder, job):
    """One with one job, which it scrapes every second; yields its address.

    Paths in ``job`` are relative to ``folder``.
    """
    folder.mkdir(exist_ok=True)
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with prometheus_in(binary, folder) as address:
        yield address


@contextmanager
def prometheus_in(binary, folder):
    """One with the ``prometheus.yml`` of a folder; yields its address. It writes to ``log`` there."""
    address, log = free_address(), folder / "log"
    command = (
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    )
    with log.open("wb") as file:
        popen = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        Process("prometheus", popen, log).wait_until(lambda: answers(f"http://{address}/-/ready"))
        yield address
    finally:
        popen.kill()
        popen.wait()
