"""The limits in the shipped scrape configurations: a run of many heads fits, and what is no run does not."""

import pytest
import yaml

from rl_exporter import HeadMeasurement, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.client.fetch import MAX_BYTES
from rl_exporter.collector import Renderer
from rl_exporter.environment_metrics import MOST_SERIES
from rl_exporter.numbers import DurationNumbers, PolicyNumbers, TrainingNumbers, attributes
from rl_training.action_space import HEADS
from tests.support import ROOT
from tests.support.panel_runs import run_of

EIGHT_HEADS = 440
"""Samples of a scrape with eight heads at most (DESIGN)."""


@pytest.fixture(params=["prometheus/prometheus.yml", "prometheus/agent.yml", "prometheus/secured.yml"])
def job(request):
    jobs = yaml.safe_load((ROOT / request.param).read_text())["scrape_configs"]
    return next(job for job in jobs if job["job_name"] == "rl-training")


def large_body():
    """/metrics of a hundred heads with sixteen choices, every number of a head measured."""
    shares = (1 / 16,) * 16
    every = HeadMeasurement(2.0, 0.5, 0.25, 0.5, action_shares=shares, state_information=0.5, gradient_norm=1.0)
    heads = {f"a_head_with_a_long_name_{number}": every for number in range(100)}
    return Renderer(run_of(heads, dict.fromkeys(heads, 16)).snapshot).render("")[0]


def test_a_hundred_heads_fit(job):
    lines = [line for line in large_body().decode().splitlines() if not line.startswith("#")]
    assert 5 * EIGHT_HEADS < len(lines) < job["sample_limit"]
    assert job["body_size_limit"] == f"{MAX_BYTES // 2**20}MB"
    assert 4 * len(large_body()) < MAX_BYTES


def test_labels_of_targets_fit(job):
    most = max(line.count('="') for line in large_body().decode().splitlines() if not line.startswith("#"))
    assert most + 16 < job["label_limit"]


def fullest_body(**reported):
    """Eight heads with every number and condition that a head can have at once: blind, collapsed and dead."""
    aggregator = SanctumAggregator(HEADS, RunInfo("run"), entropy_coefficient=0.01)
    heads = {
        head.name: HeadMeasurement(
            *(0.01, 0.01, 0.5, 0.5, 0.001, 1.1, 0.0, 0.1, 3.0, 0.0),
            action_shares=(1 / head.choices,) * head.choices,
        )
        for head in HEADS
    }
    owners = (PolicyNumbers, TrainingNumbers, DurationNumbers)
    numbers = {number.name: 1 for owner in owners for number in attributes(owner)}
    for _ in range(3):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads=heads, **numbers, **reported))
    return Renderer(aggregator.snapshot).render("")[0].decode()


def samples(body):
    return [line for line in body.splitlines() if not line.startswith("#")]


def test_eight_heads_and_their_run_stay_within_their_samples():
    found = samples(fullest_body())
    assert EIGHT_HEADS - 20 < len(found) <= EIGHT_HEADS
    assert sum('condition="' in line for line in found) == 5 * 8, "or this is not the most that there can be"


def test_environments_have_a_bounded_room_beside_them():
    many = {f'x{{label="{number}"}}': 1.0 for number in range(1000)}
    added = set(samples(fullest_body(environment_metrics=many))) - set(samples(fullest_body()))
    assert sum(line.startswith("rl_environment_") for line in added) == MOST_SERIES == 48
    assert len(samples(fullest_body(environment_metrics=many))) <= EIGHT_HEADS + MOST_SERIES + 1
