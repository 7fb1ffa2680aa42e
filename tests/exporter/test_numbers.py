"""A number is defined once: its row is all that a new one needs to arrive everywhere."""

import copy
import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import fields

import pytest

from rl_exporter import (
    HeadMeasurement,
    HeadRecorder,
    Heads,
    PPOUpdatePayload,
    RunInfo,
    SanctumAggregator,
    SanctumSnapshot,
)
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import DurationNumbers, HeadNumbers, PolicyNumbers, TrainingNumbers, attributes
from tests.support import ROOT

RECORDER = ROOT / "exporter/rl_exporter/recorder.py"
BLOCK = re.compile(r"(?<=        # numbers\n).*(?=        # end of the numbers\n)", re.DOTALL)


def signature_lines():
    """The keyword arguments of ``record``, as they must stand in its source."""
    for number in attributes(HeadNumbers)[1:]:
        yield f"        {number.row.argument or number.name}: PerHead | None = None,\n"
    for owner in (TrainingNumbers, PolicyNumbers, DurationNumbers):
        for number in attributes(owner):
            kind, default = ("SupportsIndex | None", 0) if number.whole else ("SupportsFloat | None", None)
            yield f"        {number.name}: {kind} = {default},\n"


def test_record_spells_out_every_number(request):
    source = RECORDER.read_text()
    current = BLOCK.sub("".join(signature_lines()), source)
    if request.config.getoption("--golden"):
        RECORDER.write_text(current)
        return
    assert source == current, "run: pytest tests/exporter/test_numbers.py --golden"
    assert BLOCK.sub("", source) != current
    given = set(inspect.signature(HeadRecorder.record).parameters)
    assert len(given) > 15
    assert given >= {"entropy", "head_gradient_norm", "gradient_norm", "episodes", "update_duration"}


def test_every_duration_has_a_histogram_in_the_snapshot():
    held = {field.name: field.default for field in fields(SanctumSnapshot)}
    for number in attributes(DurationNumbers):
        assert isinstance(held[f"{number.name}s"], Histogram)


def test_no_two_numbers_share_a_series_and_a_metric_has_one_help_text():
    rows = [
        (owner, number.row)
        for owner in (
            PPOUpdatePayload,
            SanctumSnapshot,
            type(SNAPSHOT.tamiyo),
            type(SNAPSHOT.tamiyo.readings["op"]),
        )
        for number in attributes(owner)
    ]
    helps = {}
    for _, row in rows:
        assert helps.setdefault(row.metric, row.help) == row.help


def snapshot():
    aggregator = SanctumAggregator(Heads.of({"op": 6, "slot": 3}), RunInfo("run"), clock=lambda: 1000.0)
    aggregator.handle_ppo_update(
        PPOUpdatePayload(
            heads={"op": HeadMeasurement(1.0, 0.5, 0.5, 0.5)}, kl_divergence=0.5, update_duration=2.0
        )
    )
    return aggregator.snapshot()


SNAPSHOT = snapshot()
PAYLOAD = PPOUpdatePayload(heads={"op": HeadMeasurement(1.0, gradient_norm=0.5)}, episodes=2, policy_loss=0.25)


@pytest.mark.parametrize("original", [PAYLOAD, SNAPSHOT], ids=["payload", "snapshot"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_payloads_and_snapshots_can_be_handed_to_another_process(original, copied):
    found = copied(original)
    assert found == original
    assert type(found) is type(original)
    heads = found.heads if isinstance(found, PPOUpdatePayload) else found.tamiyo.readings
    with pytest.raises(TypeError):
        heads["op"] = None
    assert PAYLOAD != SNAPSHOT


PROGRAM = """
import json, sys
import rl_exporter
from rl_exporter.cli.main import metrics_table
from rl_exporter.view.document import document

with rl_exporter.serve({"arm": 3}, run_id="new", listen="127.0.0.1:0", linger=0) as recorder:
    recorder.record({"arm": 0.5}, head_new=({"arm": 0.25}), new_share=0.75)
    recorder.record({"arm": 0.5}, head_new=({"arm": 7.0}), new_share=7.0)
    bad = recorder.snapshot().record_errors
    recorder.record({"arm": 0.5}, head_new=({"arm": 0.25}), new_share=0.75)
    snapshot = recorder.snapshot()
    body = rl_exporter.HeadCollector(lambda: snapshot)
    from rl_exporter.collector import Renderer
    text = Renderer(recorder.snapshot).render("")[0].decode()
print(json.dumps({
    "state": [snapshot.tamiyo.new_share, snapshot.tamiyo.readings["arm"].new],
    "metrics": [line for line in text.splitlines() if line.startswith(("rl_policy_new", "rl_policy_head_new"))],
    "read back": rl_exporter.parse_snapshot(text) == snapshot,
    "document": [document(snapshot)["new_share"], document(snapshot)["heads"][0]["new"]],
    "table": [line for line in metrics_table().splitlines() if "_new_" in line],
    "errors": bad,
}))
"""


def test_a_new_row_arrives_everywhere(tmp_path):
    """A head's number and a policy's number: one row each, and the signature written anew."""
    for folder in ("exporter", "tests/exporter", "tests/support"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "golden")
        )
    shutil.copy(ROOT / "tests/__init__.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    table = tmp_path / "exporter/rl_exporter/numbers.py"
    source = table.read_text()
    head = 'new: Annotated[float | None, Number("rl_policy_head_new_ratio", "New.", least=0.0, most=1.0, ' \
           'argument="head_new")] = None'  # fmt: skip
    policy = (
        'new_share: Annotated[float | None, Number("rl_policy_new_ratio", "New.", least=0.0, most=1.0)] = None'
    )
    for following, row in (("    importance_ratio_max:", head), ("    policy_loss:", policy)):
        assert source.count(following) == 1
        source = source.replace(following, f"    {row}\n{following}")
    table.write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "exporter")}

    def python(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    write = "tests.exporter.test_numbers as t, pathlib; p = pathlib.Path('exporter/rl_exporter/recorder.py')"
    python("-c", f"import {write}; p.write_text(t.BLOCK.sub(''.join(t.signature_lines()), p.read_text()))")
    found = json.loads(python("-c", PROGRAM))
    assert found == {
        "state": [0.75, 0.25],
        "metrics": [
            'rl_policy_head_new_ratio{head="arm",run_id="new"} 0.25',
            'rl_policy_new_ratio{run_id="new"} 0.75',
        ],
        "read back": True,
        "document": [0.75, 0.25],
        "table": [
            "| `rl_policy_head_new_ratio` | gauge | head | New. |",
            "| `rl_policy_new_ratio` | gauge |  | New. |",
        ],
        "errors": 2,
    }
