"""A training that a sweep watches: start rl-train, read its heads as JSON, stop it when one has collapsed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

PATIENCE_SECONDS = 60.0
"""As long as the alert RLPolicyHeadCollapsed waits."""

POLL_SECONDS = 0.5
TASK = (
    *("--env", "heads", "--env-arg", "paid_head=blueprint", "--env-arg", "safe_pay=0.9"),
    *("--env-arg", "delay=1", "--env-arg", "noise=8", "--num-envs", "8", "--rollout-steps", "64"),
    *("--learning-rate", "3e-3"),
)
"""The head blueprint finds an action that pays 0.9 at once, and what pays 1 only if it keeps looking."""


Document = dict[str, Any]
"""What GET /api/v1/heads answers; docs/automation.md describes it."""


def heads_of(url: str) -> Document:
    """The document of the run whose server is at ``url``. Raises OSError where nobody answers."""
    with urllib.request.urlopen(f"{url}/api/v1/heads", timeout=5) as answer:
        document: Document = json.load(answer)
    return document


def collapsed(document: Document, patience: float = PATIENCE_SECONDS) -> list[str]:
    """Names of the heads that have been collapsed or dead for three updates and ``patience`` seconds."""
    latest = time.time() - patience
    return [
        head["name"]
        for head in document["heads"]
        if head["verdict"] in {"collapsed", "dead"} and head["since"] is not None and head["since"] <= latest
    ]


class Run:
    """One rl-train in a process of its own, until the end of the ``with`` block."""

    def __init__(self, run_id: str, **options: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        given = {"run-id": run_id, "listen": f"127.0.0.1:{port}", **options}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        self._process = subprocess.Popen([sys.executable, "-m", "rl_training", "--quiet", *TASK, *arguments])

    def documents(self) -> Iterator[Document]:
        """What the run says, again and again until its end. A run that is still starting says nothing."""
        while self._process.poll() is None:
            try:
                document = heads_of(self.url)
            except OSError:
                document = None
            if document is not None and document["updates"]:
                yield document
                if document["run_state"] != "running":
                    return
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the run: as interrupted, which pages nobody."""
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
