"""What a view remembers of former updates."""

import pytest

from rl_exporter import HeadMeasurement, PPOUpdatePayload
from rl_exporter.view.history import History
from tests.support.panel_runs import ratio_run, run_of


def test_the_trend_compares_with_the_mean_of_the_last_updates():
    def trend(*norms):
        history = History()
        aggregator = None
        for norm in norms:
            measured = {"op": HeadMeasurement(0.9, 0.7, 1.0, 1.0, norm)}
            if aggregator is None:
                aggregator = run_of(measured)
            else:
                aggregator.handle_ppo_update(PPOUpdatePayload(heads=measured))
            history.add(aggregator.snapshot())
            history.add(aggregator.snapshot())
        return history.trend("op")

    assert trend(1.0) == ""
    assert trend(1.0, 1.0, 1.2) == "↗"
    assert trend(1.0, 1.0, 0.8) == "↘"
    assert trend(1.0, 1.0, 1.05) == "→"


def test_a_run_that_starts_anew_starts_its_history_anew():
    history = History()
    history.add(ratio_run(0.9).snapshot())
    history.add(ratio_run(0.8).snapshot())
    assert history.ratios("op") == (pytest.approx(0.9),), "the same update once"
    history.add(ratio_run(0.8, run_id="another").snapshot())
    assert history.ratios("op") == (pytest.approx(0.8),)
    assert history.ratios("nobody") == ()
