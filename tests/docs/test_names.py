"""What discovery lists by a name answers to it: in Compose, and where the documentation shows target and command."""

import json
import re
import shlex

import yaml

from rl_exporter.server.gate import Gate
from rl_exporter.server.listen import parse_listen_address
from rl_training.run.cli import parser, settings_from
from tests.support import ROOT


def hosts(text):
    """The names of targets in JSON, as on a page."""
    groups = re.findall(r'\[\{"targets": \[".*?\]', text)
    return {host.rpartition(":")[0] for group in groups for host in re.findall(r'"([^"]+:\d+)"', group)}


def refused(command, names):
    """Those of the names that a run with these arguments answers 403 to."""
    output = settings_from(parser().parse_args(command)).output
    gate = Gate(None, [name for name in output.allow_host.split(",") if name])
    gate.listening(parse_listen_address(output.listen))
    return {name for name in names if gate.refusal({"HTTP_HOST": f"{name}:28008"})}


def documented():
    """Targets and command of each point of docs/stack.md that shows both, and those of Compose."""
    for point in re.split(r"\n- ", (ROOT / "docs/stack.md").read_text()):
        commands = re.findall(r"`rl-train ([^`]*--listen[^`]*)`", point)
        if hosts(point) and commands:
            yield hosts(point), shlex.split(commands[0])
    trainer = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["trainer"]["command"]
    entry = json.dumps(json.loads((ROOT / "deploy/compose/targets/trainer.json").read_text()))
    yield hosts(entry), [part.replace("${TRAINER_ENV:-heads}", "heads") for part in trainer]


def test_a_documented_target_is_not_refused_for_its_name():
    found = list(documented())
    assert [names for names, _ in found] == [{"host.docker.internal"}, {"trainer"}]
    for names, command in found:
        assert refused(command, names) == set()
        at = command.index("--allow-host")
        assert refused(command[:at] + command[at + 2 :], names) == names
