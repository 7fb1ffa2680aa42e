import pytest

from rl_exporter.discovery.labels import check_labels, parse_label


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("cluster=lab", ("cluster", "lab")),
        ("_a1=x=y", ("_a1", "x=y")),
        ("job=mine", ("job", "mine")),
        ("team=Zürich 1", ("team", "Zürich 1")),
    ],
)
def test_name_and_value(text, pair):
    assert parse_label(text) == pair


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cluster", "'cluster' is not NAME=VALUE"),
        ("=lab", "a name has letters, digits and _"),
        ("1a=x", "no digit first"),
        ("a-b=x", "a name has letters, digits and _"),
        ("ä=x", "a name has letters, digits and _"),
        ("run_id=x", "every series carries its own run_id"),
        ("__address__=x", "Prometheus' own"),
        ("head=x", "the metrics of a run have a label of that name"),
        ("state=x", "the metrics of a run have a label of that name"),
        ("le=x", "the metrics of a run have a label of that name"),
        ("version=x", "the metrics of a run have a label of that name"),
        ("cluster=", "it is empty"),
        ("cluster=\udcff", "not valid UTF-8"),
    ],
)
def test_what_prometheus_would_reject_or_rename_is_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as raised:
        parse_label(text)
    assert "\n" not in str(raised.value)


def test_every_label_of_a_body_is_known():
    """So that none of them can be put onto a target, where Prometheus would rename it."""
    from prometheus_client.parser import text_string_to_metric_families

    from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
    from rl_exporter.collector import Renderer

    aggregator = SanctumAggregator(Heads.of({"op": 3}), RunInfo("run"))
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)}))
    body = Renderer(aggregator.snapshot).render("")[0].decode()
    names = {
        name
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        for name in sample.labels
    }
    assert len(names) > 8
    for name in names:
        with pytest.raises(ValueError, match=f"label '{name}' is not possible"):
            check_labels({name: "x"})
