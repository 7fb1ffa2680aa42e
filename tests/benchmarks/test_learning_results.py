"""What the runs of the learning benchmark came to, and the page and the picture that are written from it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learning import PAGE, PICTURE, RESULTS, main
from benchmarks.learning_runs.jobs import Job, found, jobs
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.picture import draw
from benchmarks.learning_runs.report import BEGIN, END, NOT_TRAINED, shown_command, tables, written
from benchmarks.learning_runs.results import merged, of_now, read, results, write
from benchmarks.learning_runs.rows import rows
from tests.benchmarks.made_logs import HEADS, ROWS, logs_of, write_run
from tests.support import ROOT


def test_the_difference_is_that_of_medians_to_the_best_peer(tmp_path):
    row = ROWS["cartpole"]
    runs = {
        OURS: [300.0, 500.0, 400.0],
        "PPO": [450.0, 150.0, 350.0],
        "PPO as rl-train": [90.0],
        "RecurrentPPO": [100.0],
        "PPO 32x12": [80.0],
    }
    every = results([row], logs_of(tmp_path, row, **runs))
    assert [one.who for one in every] == list(runs)
    line = next(line for line in tables([row], every).splitlines() if line.startswith("| `cartpole`"))
    assert (
        "| 400.00 (300.00 to 500.00; 3 seeds) | PPO 350.00 (150.00 to 450.00; 3 seeds), PPO as rl-train 90.00"
        in line
    )
    assert line.endswith("| +50.00 |")
    assert "The peers ran with stable-baselines3 " in tables([row], every)
    without = [result for result in every if result.who != "RecurrentPPO"]
    line = next(line for line in tables([row], without).splitlines() if line.startswith("| `cartpole`"))
    assert line.endswith(f"RecurrentPPO {NOT_TRAINED}, PPO 32x12 80.00 (80.00 to 80.00; 1 seed) | - |")


def test_results_are_what_the_runs_came_to_and_are_read_back(tmp_path):
    for seed, values in enumerate(([1.0, 5.0], [3.0, 4.0], [2.0, 12.0])):
        write_run(tmp_path, Job("heads", OURS, (), seed), *values)
    logs = found(
        jobs([HEADS], ("ours",), 5, ("clip=0.1",)) + jobs([HEADS], ("ours",), 5, ()), tmp_path, strict=True
    )
    (result,) = results(rows(), logs)
    assert (result.seeds, result.median, result.lowest, result.highest) == (3, 5.0, 4.0, 12.0)
    assert result.made.settings["run"]["seed"] == 0
    first, last = result.curve[0], result.curve[-1]
    # Runs are logged at 100 and 200 steps: before, they have no value.
    assert (first.steps, first.lowest, first.mean, first.highest) == (976, 4.0, 7.0, 12.0)
    assert last.steps == HEADS.steps
    write(tmp_path / RESULTS, [result])
    assert read(tmp_path / RESULTS) == [result]
    assert read(tmp_path / "none.json") == []


def test_a_row_that_is_trained_anew_replaces_its_own_result_alone(tmp_path, capsys):
    first = results([HEADS], logs_of(tmp_path / "first", HEADS, **{OURS: [9.0, 9.5], "MaskablePPO": [8.0]}))
    second = results([HEADS], logs_of(tmp_path / "second", HEADS, **{OURS: [12.0, 13.0]}))
    fewer = results([HEADS], logs_of(tmp_path / "fewer", HEADS, **{OURS: [1.0]}))
    every = merged(merged(first, second), fewer)
    assert {one.who: one.median for one in every} == {OURS: 12.5, "MaskablePPO": 8.0}
    assert [one.who for one in merged(reversed(every), ())] == [OURS, "MaskablePPO"]
    assert of_now(every) == every
    assert capsys.readouterr().err == ""
    assert of_now(with_other_settings(one) for one in every if one.who != OURS) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "left out, made with other settings than those of now: heads, MaskablePPO"


def with_other_settings(result):
    return replace(result, made=replace(result.made, settings={**result.made.settings, "steps": 1}))


def test_old_settings_with_more_seeds_do_not_stand_in_the_way_of_new_ones(tmp_path):
    (tmp_path / PAGE).write_text(f"{BEGIN}{END}")
    many = results([HEADS], logs_of(tmp_path / "many", HEADS, **{OURS: [9.0, 9.5, 9.7]}))
    write(tmp_path / RESULTS, map(with_other_settings, many))
    logs_of(tmp_path / "few", HEADS, **{OURS: [12.25]})
    folders = ["--folder", str(tmp_path / "few"), "--write", str(tmp_path)]
    assert main(["--rows", "heads", "--processes", "0", *folders]) == 0
    assert [(one.seeds, one.median) for one in read(tmp_path / RESULTS)] == [(1, 12.25)]


def assert_the_page_says_what_the_results_say(page, every):
    assert of_page(page, BEGIN, END) == tables(rows(), every)


def test_the_page_says_what_the_results_say(capsys):
    """Also: every result was made with the settings of now."""
    every = read(ROOT / "docs" / RESULTS)
    assert of_now(every) == every
    assert capsys.readouterr().err == ""
    page = (ROOT / "docs" / PAGE).read_text()
    assert_the_page_says_what_the_results_say(page, every)
    with pytest.raises(AssertionError):
        assert_the_page_says_what_the_results_say(page, [replace(every[0], median=0.0), *every[1:]])


def numbers(picture):
    return np.array([float(number) for number in re.findall(r"-?\d+\.\d+", picture)])


@pytest.mark.slow
def test_the_picture_shows_what_the_results_say(tmp_path):
    """Within the rounding of another processor."""
    committed = (ROOT / "docs" / PICTURE).read_text()
    every = read(ROOT / "docs" / RESULTS)
    draw(rows(), every, tmp_path / "now.svg")
    drawn = (tmp_path / "now.svg").read_text()
    assert re.findall(r"<!-- .* -->", drawn) == re.findall(r"<!-- .* -->", committed)
    np.testing.assert_allclose(numbers(drawn), numbers(committed), atol=0.01)
    lower = tuple(replace(point, mean=point.mean - 1) for point in every[0].curve)
    draw(rows(), [replace(every[0], curve=lower), *every[1:]], tmp_path / "other.svg")
    other = numbers((tmp_path / "other.svg").read_text())
    assert other.shape != numbers(committed).shape or abs(other - numbers(committed)).max() > 0.01


def of_page(page, begin, end):
    return page.partition(begin)[2].partition(end)[0]


def assert_the_page_has_every_row(page):
    lines = of_page(page, BEGIN, END).splitlines()
    results = {line.split(" | ")[0].strip("| `"): line for line in lines if line.count("|") == 6}
    for row in rows():
        cells = results[row.name].split(" | ")
        assert cells[1] == f"{row.steps:,}"
        assert all(f"{peer} " in cells[3] for peer in row.peers)
        assert f"| `{row.name}` | `{shown_command(row)}` |" in lines
    assert results.keys() == {"row", "---", *ROWS}


def test_the_page_has_every_row():
    page = (ROOT / "docs/learning.md").read_text()
    assert_the_page_has_every_row(page)
    assert "](learning.svg)" in page


@pytest.mark.parametrize(
    "change", [("57,600", "57,601"), ("MaskablePPO", "PPO"), ("| `cartpole", "| `acrobot")]
)
def test_that_check_sees_a_page_that_fell_behind(change):
    page = written((ROOT / "docs/learning.md").read_text(), rows(), [])
    assert_the_page_has_every_row(page)
    with pytest.raises((AssertionError, KeyError)):
        assert_the_page_has_every_row(page.replace(*change))


@pytest.mark.slow
def test_the_picture_shows_ends_and_is_the_same_again(tmp_path):
    logs = logs_of(tmp_path, HEADS, **{OURS: [12.0, 14.0], "MaskablePPO": [13.0]})
    logs |= logs_of(tmp_path, ROWS["growing"], **{"best script": [2.5, 2.7]})
    pictures = [tmp_path / f"{number}.svg" for number in range(2)]
    for picture in pictures:
        draw(rows(), results(rows(), logs), picture)
    first, second = (picture.read_text() for picture in pictures)
    assert first == second
    assert all(label in first for label in ("rl-train, 2 seeds", "MaskablePPO, 1 seed", "best script (2.60)"))


@pytest.mark.slow
def test_page_and_picture_are_written_from_new_logs_and_kept_results(tmp_path, capsys):
    page = tmp_path / PAGE
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    logs, kept = tmp_path / "logs", tmp_path / "kept"
    write(
        tmp_path / RESULTS, results(rows(), logs_of(kept, ROWS["cartpole"], **{OURS: [321.0], "PPO": [123.0]}))
    )
    logs_of(logs, HEADS, **{OURS: [12.25]})
    arguments = ["--rows", "heads", "--processes", "0", "--folder", str(logs), "--write", str(tmp_path)]
    assert main(arguments) == 0
    assert "12.25    12.25    12.25  rl-train: 12.25" in capsys.readouterr().out
    written_now = page.read_text()
    assert written_now.startswith("before\n")
    assert all(f"{end} ({end} to {end}; 1 seed)" in written_now for end in ("12.25", "321.00", "123.00"))
    assert "</svg>" in (tmp_path / PICTURE).read_text()
    assert {one.row for one in read(tmp_path / RESULTS)} == {"heads", "cartpole"}
    # The same again from what is kept, where all logs are gone.
    assert main([*arguments[:5], str(kept / "none"), *arguments[-2:]]) == 0
    assert page.read_text() == written_now
