import io
import math

import pytest
from rich.console import Console

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_training.run.display import Display

HEADS = Heads([Head("op", 4), Head("blueprint", 4, 1.3)])


def show(*updates, width=110):
    aggregator = SanctumAggregator(HEADS, RunInfo("shown"))
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with Display(aggregator.snapshot, console, quiet=False) as display:
        for op, blueprint in updates:
            heads = {"op": HeadMeasurement(op), "blueprint": HeadMeasurement(blueprint)}
            payload = PPOUpdatePayload(heads=heads)
            aggregator.handle_ppo_update(payload)
            display.handle_ppo_update(payload)
    console.print(display.summary())
    return console.file.getvalue()


def test_the_live_table_shows_nats_bar_and_level():
    text = show((1.3, 0.6))
    row = next(line for line in text.splitlines() if "blueprint" in line and "1.3x" in line)
    assert "1.3x0.600" in row
    assert "0.433" in row
    assert "█" * 9 + "░" * 11 in row
    assert "warning" not in row.split("░")[0]
    assert row.rstrip(" │").endswith("warning")
    op = next(line for line in text.splitlines() if "1.300" in line)
    assert "x1.300" not in op
    assert "healthy" in op


@pytest.mark.parametrize("width", [80, 90, 200])
def test_the_bar_keeps_its_proportion_at_any_width(width):
    text = show((1.3, math.log(4) / 2), width=width)
    row = next(line for line in text.splitlines() if "0.500" in line)
    bar = [row.count("█"), row.count("░")]
    assert abs(bar[0] - bar[1]) <= 1
    assert sum(bar) >= 8
    assert "…" not in text


def test_the_display_says_which_head_collapsed_while_the_total_looks_healthy():
    text = show((1.3, 1.3), (1.3, 0.2))
    assert "BLUEPRINT HAS COLLAPSED (0.144) while the total still reads 1.500 nats" in " ".join(text.split())


def test_the_summary_shows_first_lowest_and_last():
    text = show((1.3, 1.3), (1.3, 0.2), (1.3, 0.9))
    row = [line for line in text.splitlines() if "blueprint" in line][-1]
    assert [part.strip() for part in row.split("│")[2:5]] == ["0.938", "0.144", "0.649"]
