import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.health import DEFAULT_THRESHOLDS, Thresholds
from rl_exporter.panel.screens import help_lines
from rl_exporter.view.cells import Bar
from rl_exporter.view.layout import lay_out, legend, plain_text, shortened, text_width
from rl_exporter.view.run_view import run_view
from tests.support.panel_runs import NOW, drill_with_history, many_heads, run_of


def text_of(snapshot, width, **options):
    return plain_text(lay_out(run_view(snapshot, NOW), width, **options))


@pytest.mark.parametrize("width", [20, 40, 60, 76, 80, 100, 116, 120, 160, 196, 200])
@pytest.mark.parametrize("heads", [1, 8, 40])
def test_nothing_is_wider_than_the_terminal_and_no_head_is_lost(width, heads):
    snapshot = many_heads(heads).snapshot()
    lines = plain_text(lay_out(run_view(snapshot, NOW), width, with_legend=True)).splitlines()
    assert max(map(text_width, lines)) <= width
    words = " ".join(lines).split()
    for i in range(heads):
        assert words.count(f"head_{i}") >= 1
    assert sum(word == "●" for word in words) == heads + 1, "a state for every head, and one in the legend"


def test_eight_heads_stand_side_by_side_at_120_and_in_two_even_blocks_at_80():
    snapshot, history = drill_with_history()
    view = run_view(snapshot, NOW, history)
    wide = [line for line in plain_text(lay_out(view, 116)).splitlines() if "Entr" in line]
    assert len(wide) == 1
    narrow = [line.split()[1:] for line in plain_text(lay_out(view, 76)).splitlines() if "Entr" in line]
    assert [len(line) for line in narrow] == [8, 8], "four numbers, each with its letter"


def test_the_layout_does_not_jump_when_a_state_changes():
    measured = {f"head_{i}": HeadMeasurement(1.0, 0.7, 0.5, 0.9, 0.1, 1.1) for i in range(8)}
    healthy = run_of(measured).snapshot()
    deterministic = run_of({**measured, "head_3": HeadMeasurement(0.01, 0.01, 0.5, 0.9, 0.1)}).snapshot()
    columns = [
        [line.index("head_7") for line in text_of(s, 116).splitlines() if "head_6" in line]
        for s in (healthy, deterministic)
    ]
    assert columns[0] == columns[1][-1:]
    assert "◆ determin." in text_of(deterministic, 116)
    assert "◆ deterministic" in text_of(deterministic, 196)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("width", [60, 120, 200])
def test_a_bar_is_filled_in_proportion_to_an_eighth_of_a_column(ratio, width):
    snapshot = run_of({"op": HeadMeasurement(ratio * 1.3862943611198906)}).snapshot()
    (line,) = [
        line
        for line in text_of(snapshot, width).splitlines()
        if set(line.strip()) <= set("█▏▎▍▌▋▊▉─") and line.strip()
    ]
    bar = line.strip()
    eighths = sum(dict(zip("▏▎▍▌▋▊▉█", range(1, 9), strict=True)).get(char, 0) for char in bar)
    assert abs(eighths - ratio * len(bar) * 8) <= 0.5


def test_wide_and_long_names_keep_the_columns_aligned():
    measured = {name: HeadMeasurement(1.0, 0.7) for name in ("漢字漢字", "x" * 60, "op")}
    lines = text_of(run_of(measured).snapshot(), 100).splitlines()
    names = next(line for line in lines if "漢字" in line and "op" in line)
    entr = next(line for line in lines if line.startswith("Entr"))
    assert text_width(names[: names.index("op")]) == entr.rindex("1.000")
    assert "…" in names


def test_shortening():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert shortened("漢字漢字", 5) == "漢…字"
    assert shortened("abc", 0) == ""
    assert text_width("e\u0301") == 1


def test_before_the_first_update_it_waits_and_shows_no_number():
    aggregator = SanctumAggregator(Heads.of({"op": 6, "slot": 3}), RunInfo("fresh"))
    text = text_of(aggregator.snapshot(), 80)
    assert "waiting" in text
    assert "for the first update; heads: op, slot" in text
    assert "0.000" not in text
    assert "Entr" not in text


def test_a_run_that_ended_without_an_update_is_not_waited_for():
    from rl_exporter import RunState

    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("fresh"))
    aggregator.set_run_state(RunState.FAILED)
    text = text_of(aggregator.snapshot(), 80)
    assert "✖ failed" in text
    assert "the run ended before its first update" in text


def test_the_whole_panel_of_the_recorded_drill():
    snapshot, history = drill_with_history()
    text = plain_text(lay_out(run_view(snapshot, NOW + 2, history), 116))
    assert text.splitlines()[0] == "drill   ▶ running   update 40   2 s ago"
    assert (
        "collapsed blueprint  choice entropy 0.008 for 28 updates: not known whether its choices depend on"
        in text
    )
    assert "total 7.060 nats   KL 0.054   clip 28%   return 15.950   episodes 1,280   steps 20,480" in text
    assert "1.2x0.983 H" in text


def test_names_cannot_steer_the_terminal():
    measured = {"a\x1b[2J\nb": HeadMeasurement(1.0)}
    text = text_of(run_of(measured, run_id="r\x1b]0;x\x07").snapshot(), 80)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a�[2J�b" in text


def test_legend_and_help_name_every_state_level_row_and_key():
    text = plain_text(legend(100, DEFAULT_THRESHOLDS))
    for word in (
        "exploding",
        "dead",
        "deterministic",
        "confused",
        "healthy",
        "unsettled",
        "0.5",
        "0.25",
        "H ",
        "W ",
        "C ",
    ):
        assert word in text
    assert "above its head's own threshold" in plain_text(legend(100))
    assert "warning, switched off" in plain_text(legend(100, Thresholds(0.0, 0.2)))
    assert "healthy, above 0.2" in plain_text(legend(100, Thresholds(0.0, 0.2)))
    page = plain_text(help_lines(76))
    assert max(map(len, page.splitlines())) <= 76
    snapshot = run_of({"op": HeadMeasurement(1.0, 0.7, 0.5, 0.9, 0.1, 1.1, nan_steps=1)}).snapshot()
    for label in run_view(snapshot, NOW).heads[0].rows:
        assert label in page


def test_the_legend_names_the_thresholds_of_the_run_where_its_heads_agree():
    def text(**own):
        aggregator = SanctumAggregator(Heads([Head("a", 4, warning=0.4), Head("b", 4, **own)]), RunInfo("r"))
        aggregator.handle_ppo_update(
            PPOUpdatePayload(heads={"a": HeadMeasurement(1.0), "b": HeadMeasurement(1.0)})
        )
        return text_of(aggregator.snapshot(), 100, with_legend=True)

    assert "warning, at or below 0.4" in text(warning=0.4)
    assert "Limits" not in text(warning=0.4)
    assert "above its head's own threshold" in text()
    assert "0.4/0.25" in text()


def test_a_long_name_of_an_action_is_cut_and_its_share_is_not():
    head = Head("op", 2, actions=("AN_ACTION_WITH_A_VERY_LONG_NAME_INDEED", "B"))
    aggregator = SanctumAggregator(Heads([head]), RunInfo("r"))
    aggregator.handle_ppo_update(
        PPOUpdatePayload(heads={"op": HeadMeasurement(0.5, action_shares=(0.97, 0.03))})
    )
    (row,) = [line for line in text_of(aggregator.snapshot(), 40).splitlines() if line.startswith("Action")]
    assert "…" in row
    assert row.endswith(" 97%")


def test_every_bar_has_room():
    snapshot, _ = drill_with_history()
    view = run_view(snapshot, NOW)
    assert any(isinstance(part, Bar) for head in view.heads for part in head.rows["Grad"])
