"""A scaled-out setup: an agent near the runs, a central store, and the same rules evaluated by vmalert."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from stack.configuration import ALERTMANAGER
from stack.processes import Process, Stack, free_address

AGENT, STORE, VMALERT = "127.0.0.1:9091", "127.0.0.1:8428", "127.0.0.1:8880"
"""The addresses in the shipped files and commands."""

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "agent": f"""\
prometheus --agent \\
  --config.file=prometheus/agent.yml \\
  --storage.agent.path=data/agent \\
  --web.listen-address={AGENT}""",
        "store": f"""\
victoria-metrics \\
  -storageDataPath=data/store \\
  -promscrape.config=prometheus/store.yml \\
  -search.latencyOffset=10s \\
  -httpListenAddr={STORE}""",
        "vmalert": f"""\
vmalert \\
  -rule='prometheus/rules/*.yml' \\
  -rule='alerts/rules/*.yml' \\
  -evaluationInterval=15s \\
  -datasource.url=http://{STORE} \\
  -datasource.queryStep=5m \\
  -remoteWrite.url=http://{STORE} \\
  -remoteWrite.flushInterval=2s \\
  -remoteRead.url=http://{STORE} \\
  -notifier.url=http://{ALERTMANAGER} \\
  -rule.resendDelay=1m \\
  -httpListenAddr={VMALERT}""",
    }
)
"""Commands for a folder that ``rl-exporter bundle`` has written. docs/scale-out.md shows the same ones."""

AGENT_OF_PROMETHEUS_2 = "--enable-feature=agent"
"""What Prometheus before 3.0 calls ``--agent``."""

_READY = {"agent": "/-/ready", "store": "/health", "vmalert": "/health"}


@dataclass(frozen=True, slots=True)
class ScaleOut:
    """Agent, store and vmalert, in the folder of a stack and with its intervals and Alertmanager."""

    stack: Stack
    binaries: Mapping[str, Path]
    """The executables ``agent``, ``store`` and ``vmalert``."""

    addresses: Mapping[str, str]

    @classmethod
    def beside(cls, stack: Stack, *, prometheus: Path, store: Path, vmalert: Path) -> ScaleOut:
        """Choose free addresses and write them into the configuration of agent and store."""
        moved = {name: free_address() for name in COMMANDS}
        shipped = dict(zip((AGENT, STORE, VMALERT), moved.values(), strict=True))
        for name in ("agent.yml", "store.yml"):
            path = stack.folder / "prometheus" / name
            text = path.read_text(encoding="utf-8")
            for before, after in shipped.items():
                text = text.replace(before, after)
            path.write_text(text, encoding="utf-8")
        return cls(stack, {"agent": prometheus, "store": store, "vmalert": vmalert}, moved)

    def start(self, name: str) -> Process:
        """Start ``agent``, ``store`` or ``vmalert``, and wait until it is ready."""
        _, *options = self._moved(COMMANDS[name]).replace("\\\n", "").replace("'", "").split()
        if name == "agent" and not knows_agent(self.binaries[name]):
            options = [AGENT_OF_PROMETHEUS_2, *options[1:]]
        return self.stack.start(
            name,
            str(self.binaries[name]),
            *options,
            ready=f"http://{self.addresses[name]}{_READY[name]}",
            cwd=self.stack.folder,
        )

    def _moved(self, command: str) -> str:
        for shipped, name in ((AGENT, "agent"), (STORE, "store"), (VMALERT, "vmalert")):
            command = command.replace(shipped, self.addresses[name])
        return self.stack.changes.applied(command)


def knows_agent(prometheus: Path) -> bool:
    """Whether it knows the option ``--agent``, as Prometheus 3 does; its help is the only place that tells."""
    said = subprocess.run([prometheus, "--help"], capture_output=True, text=True, check=False)
    return "--[no-]agent " in said.stdout + said.stderr
