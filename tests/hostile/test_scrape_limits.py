"""The limits in the shipped scrape configurations: a run of many heads fits, and what is no run does not."""

import pytest
import yaml

from rl_exporter import HeadMeasurement
from rl_exporter.client.fetch import MAX_BYTES
from rl_exporter.collector import Renderer
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
