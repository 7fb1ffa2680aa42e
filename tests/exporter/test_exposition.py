"""Text written from memory against the text that prometheus_client writes."""

import gzip
import zlib

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from rl_exporter import HeadCollector, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer, update_families
from rl_exporter.exposition import Packed, Writer

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
    {"a": WHOLE._replace(entropy=1e-9), "b": WHOLE._replace(choice_entropy=1 / 3)},
    {"b": WHOLE},
    {"a": WHOLE, "b": WHOLE._replace(entropy=float("nan"), importance_ratio_max=123456789.5)},
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


def test_the_library_writes_again_only_what_has_other_names():
    asked = []

    def encoder(registry):
        asked.append(registry)
        return choose_encoder("")[0](registry)

    aggregator = SanctumAggregator(Heads.of({"a": 6}), RunInfo("run"))
    writer = Writer(encoder)
    for loss, times in ((None, 1), (0.5, 2), (0.25, 2), (None, 3), (None, 3)):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={"a": HEALTHY}, policy_loss=loss))
        writer.write_families(update_families(aggregator.snapshot()))
        assert len(asked) == times


def test_packed_is_one_gzip_member_with_every_end():
    beginning = b"the beginning\n" * 3000
    packed = Packed(beginning)
    for end in (b"one end\n", b"another\n" * 500, b""):
        member = zlib.decompressobj(31)
        body = packed.with_end(end)
        assert member.decompress(body) == beginning + end
        assert member.eof
        assert member.unused_data == b""
        assert gzip.decompress(body) == beginning + end
    assert len(packed.with_end(b"")) < len(beginning) / 20
