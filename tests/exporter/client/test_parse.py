import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, RunState, SanctumAggregator
from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.collector import Renderer

ACCEPTS = ("", "application/openmetrics-text; version=1.0.0")
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
heads = st.lists(
    st.builds(Head, names, st.integers(1, 100_000), st.floats(0, 10)),
    min_size=1,
    max_size=5,
    unique_by=lambda h: h.name,
).map(Heads)
share = st.none() | st.floats(0, 1)
anything = st.none() | st.floats(allow_nan=True, allow_infinity=True)
counts = st.integers(0, 5)
finite = st.floats(allow_nan=False, allow_infinity=False)
labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\\n'), min_size=1, max_size=8)
keys = st.sampled_from(["x", "y_ratio"]) | st.builds('z{{a="{}",b="{}"}}'.format, labels, labels)
"""Of what environments report."""


def measurement(head):
    nats = st.none() | st.floats(0, head.max_entropy)
    shares = st.lists(st.floats(0, 1), min_size=head.choices, max_size=head.choices).map(tuple)
    return st.builds(
        HeadMeasurement, nats, share, share, share, anything, anything, nats, anything, anything, share,
        counts, counts, counts, counts, st.none() | shares if head.choices <= 16 else st.none(),
    )  # fmt: skip


@st.composite
def runs(draw):
    declared = draw(heads)
    labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    info = draw(st.builds(RunInfo, names, labels, labels, labels, labels, labels, st.integers(1, 8)))
    aggregator = SanctumAggregator(declared, info, entropy_coefficient=draw(share))
    for _ in range(draw(st.integers(0, 13))):
        measured = {head.name: draw(st.none() | measurement(head)) for head in declared}
        payload = st.builds(
            PPOUpdatePayload,
            heads=st.just({name: value for name, value in measured.items() if value}),
            environment_steps=counts,
            episodes=counts,
            environment_metrics=st.none() | st.dictionaries(keys, finite, max_size=8),
            **dict.fromkeys(
                ("episode_return", "episode_length", "kl_divergence", "clipped_share", "gradient_norm", "policy_loss", "value_loss",
                 "explained_variance", "rollout_duration", "update_duration"), anything),
        )  # fmt: skip
        aggregator.handle_ppo_update(draw(payload))
    aggregator.set_run_state(draw(st.sampled_from(RunState)))
    return aggregator


@pytest.mark.slow
@given(aggregator=runs())
@settings(max_examples=60, deadline=None)
def test_a_body_gives_back_the_snapshot_it_was_rendered_from(aggregator):
    for accept in ACCEPTS:
        body, _ = Renderer(aggregator.snapshot).render(accept)
        assert parse_snapshot(body.decode()) == aggregator.snapshot()


def body():
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("run"))
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(0.5)}))
    return Renderer(aggregator.snapshot).render("")[0].decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "shows 0 runs"),
        ("<html>hello</html>", "not a whole /metrics body"),
        ("up 1\n", "shows 0 runs"),
        (body()[: body().index("# TYPE") + 12], "breaks off within a line"),
        (body().partition("# HELP rl_exporter_record_errors")[0], "rl_exporter_record_errors_total is missing"),
        (body() + 'rl_training_run_info{run_id="b"} 1\n', "shows 2 runs"),
        (body().replace('state="running"', 'state="sleeping"'), "impossible: 'sleeping' is not a valid"),
        (
            body().replace('updates_total{run_id="run"} 1.0', 'updates_total{run_id="run"} NaN'),
            "impossible: cannot",
        ),
        (body().replace('run_id="run",seed', 'run_id="",seed'), "run_id is empty"),
        (
            body().replace('max_nats{head="op",run_id="run"} ', 'max_nats{head="op",run_id="run"} -'),
            "not those of a",
        ),
    ],
)
def test_what_is_no_exporter_is_one_clear_line(text, reason):
    with pytest.raises(NotAnExporterError, match=reason) as raised:
        parse_snapshot(text)
    assert "\n" not in str(raised.value)


def test_reading_back_is_exact():
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("run"))
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(math.nextafter(0.1, 1))}))
    text = Renderer(aggregator.snapshot).render("")[0].decode()
    assert parse_snapshot(text).tamiyo.head_op_entropy == math.nextafter(0.1, 1)
