"""Which rows the view of a run has, and what its findings say."""

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.view import cells
from rl_exporter.view.cells import Tone
from rl_exporter.view.run_view import run_view
from tests.support.panel_runs import ratio_run, run_of


def test_rows_without_content_are_hidden_and_limits_are_shown_where_heads_differ():
    assert not {"Info", "Action", "Limits"} & set(run_view(ratio_run(0.9).snapshot(), 0.0).labels)
    shares = HeadMeasurement(0.9, action_shares=(0.1, 0.2, 0.3, 0.4), state_information=0.5)
    aggregator = SanctumAggregator(
        Heads([Head("op", 4), Head("own", 4, warning=0.4, critical=0.0)]), RunInfo("r")
    )
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": shares, "own": HeadMeasurement(0.9)}))
    view = run_view(aggregator.snapshot(), 0.0)
    assert {"Info", "Action", "Limits"} < set(view.labels)
    assert [[part.text for part in head.rows["Limits"]] for head in view.heads] == [["0.5/0.25"], ["0.4/off"]]
    assert [head.rows["Info"][0].text for head in view.heads] == ["0.500", "-"]


def test_an_old_value_says_how_old_it_is():
    aggregator = run_of({"op": HeadMeasurement(0.9), "slot": HeadMeasurement(0.9)})
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(0.9)}))
    view = run_view(aggregator.snapshot(), 0.0)
    assert "Age" in view.labels
    assert [column.rows["Age"][0].text for column in view.heads] == ["-", "1 update"]
    assert "Age" not in run_view(ratio_run(0.9).snapshot(), 0.0).labels


def controlled(ratio=0.1, saturated=0.0, proposed=None):
    measured = HeadMeasurement(
        0.5, ratio, 0.5, 0.5, entropy_target=0.4, entropy_coefficient_applied=0.325,
        entropy_coefficient_proposed=proposed, controller_saturated=saturated,
    )  # fmt: skip
    return run_of({"op": measured, "slot": HeadMeasurement(1.0, 0.8, 0.5, 0.5)}).snapshot()


@pytest.mark.parametrize(
    ("saturated", "proposed", "shown"),
    [
        (0.0, None, [("0.33", Tone.PLAIN), ("to 0.40", Tone.DIM)]),
        (4.0, None, [("0.33 at bound", Tone.WARNING), ("to 0.40", Tone.DIM)]),
        (None, 0.5, [("would 0.50", Tone.DIM), ("to 0.40", Tone.DIM)]),
    ],
)
def test_a_head_under_control_has_a_row_that_says_so(saturated, proposed, shown):
    view = run_view(controlled(saturated=saturated, proposed=proposed), 0.0)
    assert "Control" in view.labels
    op, slot = view.heads
    assert [(cell.text, cell.tone) for cell in op.rows["Control"]] == shown
    assert slot.rows["Control"] == (cells.NOTHING,)
    assert "Control" not in run_view(ratio_run(0.1).snapshot(), 0.0).labels


@pytest.mark.parametrize(
    ("saturated", "said"),
    [
        (0.0, "under control: coefficient 0.325"),
        (4.0, "coefficient 0.325, at its bound for 4 updates"),
        (None, ""),
    ],
)
def test_what_is_said_of_a_low_head_says_that_it_is_under_control(saturated, said):
    (finding, *_) = run_view(controlled(saturated=saturated), 0.0).findings
    assert finding.word == "collapsed"
    assert said in finding.text
    assert ("under control" in finding.text) == bool(said)
