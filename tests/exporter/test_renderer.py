"""What is served from memory against what prometheus_client writes."""

import gzip
import zlib
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from rl_exporter import HeadCollector, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer

FORMATS = [
    "",
    "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text/plain; version=1.0.0; escaping=dots",
    "application/openmetrics-text; version=1.0.0",
]
WHOLE = HeadMeasurement(1.0, 0.5, 0.25, 0.5, 0.125, 1.5)
HEALTHY = HeadMeasurement(1.5, 0.8, 0.25, 0.5, 0.125, 1.5)
UPDATES = [
    {"a": HeadMeasurement(0.5)},
    {"a": WHOLE},
    {"a": replace(WHOLE, entropy=1e-9), "b": replace(WHOLE, choice_entropy=1 / 3)},
    {"b": WHOLE},
    {"a": WHOLE, "b": replace(WHOLE, entropy=float("nan"), importance_ratio_max=123456789.5)},
]
"""What has a sample grows; values are those that are written in several ways."""


def written_by_the_library(snapshot, accept):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HeadCollector(lambda: snapshot))
    return choose_encoder(accept)[0](registry).removesuffix(b"# EOF\n")


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("run_id", ["plain", '%s #1 "q" \\ {x="y"} 5\n# 7\u2028 8', "100 %"])
def test_every_update_reads_as_the_library_writes_it(accept, run_id):
    aggregator = SanctumAggregator(Heads.of({"a": 6, "b": 3}), RunInfo(run_id, "%d", "x y"))
    renderer = Renderer(aggregator.snapshot)
    for number, heads in enumerate(UPDATES):
        aggregator.handle_ppo_update(
            PPOUpdatePayload(heads=heads, policy_loss=-1.0 / (number + 1), update_duration=10.0**number)
        )
        expected = written_by_the_library(aggregator.snapshot(), accept)
        assert renderer.render(accept)[0].startswith(expected)


def test_the_update_part_is_encoded_once_and_follows_the_next_update():
    aggregator = SanctumAggregator(Heads.of({"a": 6}), RunInfo("run"))
    asked = []

    def snapshot():
        asked.append(aggregator.snapshot())
        return asked[-1]

    renderer = Renderer(snapshot)
    for loss in (0.5, 0.25):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={"a": HEALTHY}, policy_loss=loss))
        bodies = {renderer.render("")[0].partition(b"# HELP rl_training_start")[0] for _ in range(3)}
        assert len(bodies) == 1
        assert f'rl_policy_loss{{run_id="run"}} {loss}'.encode() in bodies.pop()
        assert len({id(part) for part in renderer._kept.values()}) == 1


def test_a_compressed_body_is_a_kept_member_and_a_fresh_one():
    aggregator = SanctumAggregator(Heads.of({"a": 6}), RunInfo("run"))
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"a": HEALTHY}))
    renderer = Renderer(aggregator.snapshot)
    first, second = (renderer.render("", gzip=True)[0] for _ in range(2))
    member = zlib.decompressobj(31)
    update = member.decompress(first)
    assert member.eof
    assert update == renderer._kept[renderer.render("")[1]].plain
    assert first[: len(first) - len(member.unused_data)] == second[: len(first) - len(member.unused_data)]
    plain = renderer.render("")[0]
    assert gzip.decompress(first).startswith(update)
    assert gzip.decompress(first).count(b"# HELP") == plain.count(b"# HELP")
    assert len(first) < len(plain) / 3
