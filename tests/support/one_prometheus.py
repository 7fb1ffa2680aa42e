"""A Prometheus with one job, which scrapes every second."""

import subprocess
from contextlib import contextmanager

import yaml

from stack.processes import Process, answers, free_address


@contextmanager
def prometheus_with(binary, folder, job):
    """Yields its address. Paths in ``job`` are relative to ``folder``."""
    folder.mkdir(exist_ok=True)
    address, log = free_address(), folder / "log"
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
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
