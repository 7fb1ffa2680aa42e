"""Documentation that repeats the code is held to it."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from rl_exporter.cli.main import main as exporter
from rl_exporter.cli.main import metrics_table
from rl_training.run.cli import parser, play_parser
from tests.support import ROOT


def missing(text):
    """Paths, tests and metrics that a document names in backquotes and that do not exist."""
    names = re.findall(r"`([^`\n]+)`", text)
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    table = metrics_table()
    for name in names:
        if re.fullmatch(r"(exporter|training|tests|benchmarks|docs|alerts|prometheus)/[\w./-]+", name):
            if not (ROOT / name).exists():
                yield name
        elif (name.startswith("test_") and f"def {name}(" not in tests) or (
            re.fullmatch(r"rl_(policy|training|value)_\w+", name) and f"`{name}`" not in table
        ):
            yield name


def test_the_specification_names_only_what_exists():
    text = (ROOT / "docs/specification.md").read_text()
    assert text.count("\n| ") >= 30
    assert list(missing(text)) == []
    assert list(missing("`tests/nothing.py` `test_nothing` `rl_policy_nothing`")) != []


def is_current(page):
    return page.endswith("\n\n" + metrics_table())


def test_the_metrics_page_is_generated(capsys):
    assert exporter(["metrics"]) == 0
    assert capsys.readouterr().out == metrics_table()
    assert is_current((ROOT / "docs/metrics.md").read_text())


@pytest.mark.parametrize("old", ["| `rl_policy_loss` |", "nats", "histogram", "run_state"])
def test_that_check_sees_a_page_that_fell_behind(old):
    page = (ROOT / "docs/metrics.md").read_text()
    lines = page.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("|") and old in line)
    assert not is_current("".join(lines[:first] + lines[first + 1 :]))
    assert not is_current("".join([*lines[:first], lines[first].replace(old, "other"), *lines[first + 1 :]]))


def test_the_page_says_what_every_metric_of_a_body_is():
    from rl_exporter import Heads, RunInfo, SanctumAggregator
    from rl_exporter.collector import Renderer

    body = Renderer(SanctumAggregator(Heads.of({"op": 3}), RunInfo("run")).snapshot).render("")[0].decode()
    names = set(re.findall(r"^# TYPE (rl_\w+)", body, re.MULTILINE))
    assert len(names) > 30
    assert {name for name in names if f"`{name}`" not in metrics_table()} == set()


def test_the_example_that_the_readme_leads_with_runs_and_ends():
    readme = (ROOT / "README.md").read_text()
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    assert len([line for line in example.splitlines() if line and not line.startswith("import")]) == 2
    program = example.replace('run_id="grasp-17"', 'run_id="grasp-17", listen="127.0.0.1:0"') + (
        "import urllib.request\n"
        "print(urllib.request.urlopen(heads.url + '/metrics', timeout=10).read().decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert 'rl_policy_head_entropy_nats{head="arm",run_id="grasp-17"} 1.2' in done.stdout


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_loop_of_the_readme_records_and_ends_the_run(monkeypatch):
    loop = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert loop.count("range(1000)") == loop.count('run_id="grasp-17"') == 1
    generator = torch.Generator().manual_seed(0)
    batch = SimpleNamespace(
        observations=torch.randn(64, 13, generator=generator), masks=torch.ones(64, 13, dtype=torch.bool)
    )
    seen = []
    yours = SimpleNamespace(
        minibatches=lambda: [batch] * 2,
        policy=lambda observations: observations,
        train_on=lambda *given: seen.append(given),
    )
    monkeypatch.setitem(sys.modules, "your_project", yours)
    names = {}
    loop = loop.replace("range(1000)", "range(3)")
    exec(loop.replace('run_id="grasp-17"', 'run_id="grasp-17", listen="127.0.0.1:0", linger=0'), names)
    snapshot = names["heads"].snapshot()
    assert snapshot.run_state == "completed"
    assert (snapshot.tamiyo.updates, snapshot.environment_steps, len(seen)) == (3, 3 * 2048, 6)
    expected = torch.distributions.Categorical(logits=batch.observations[:, 4:]).entropy().mean()
    assert snapshot.tamiyo.head_arm_entropy == pytest.approx(expected.item(), abs=1e-6)


def test_the_pages_of_the_trainer_name_every_option():
    text = (ROOT / "docs/train.md").read_text() + (ROOT / "docs/configuration.md").read_text()
    options = {
        option
        for each in (parser(), play_parser())
        for action in each._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help" and not option.startswith("--no-")
    }
    assert {option for option in options if f"`{option}" not in text} == set()


def test_the_configuration_page_has_the_generated_table():
    from rl_training.run.settings import settings_table

    page = (ROOT / "docs/configuration.md").read_text()
    assert page.endswith("\n\n" + settings_table())
    assert settings_table().count("\n| ") > 40


def test_the_configuration_page_shows_a_file_that_is_accepted(tmp_path):
    from rl_training.run.settings import build_settings, read_config

    example = (ROOT / "docs/configuration.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "config.yml").write_text(example)
    assert build_settings(read_config(tmp_path / "config.yml"), {}).learning.entropy_coefficient == 0.03


def test_the_page_names_every_option_of_watch(capsys):
    with pytest.raises(SystemExit):
        exporter(["watch", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {"--once", "--targets"} <= options
    page = (ROOT / "docs/watch.md").read_text()
    assert {option for option in options if f"`{option}" not in page} == set()


def test_samples_per_scrape_stay_within_bounds():
    from rl_exporter import HeadMeasurement, PPOUpdatePayload, RunInfo, SanctumAggregator
    from rl_exporter.collector import Renderer
    from rl_training.action_space import HEADS

    aggregator = SanctumAggregator(HEADS, RunInfo("run"), entropy_coefficient=0.01)
    full = HeadMeasurement(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    aggregator.handle_ppo_update(
        PPOUpdatePayload(
            heads=dict.fromkeys(HEADS.names, full),
            episode_return=1.0,
            kl_divergence=0.0,
            clipped_share=0.0,
            gradient_norm=1.0,
            policy_loss=0.0,
            value_loss=0.0,
            explained_variance=0.0,
            rollout_duration=1.0,
            update_duration=1.0,
        )
    )
    aggregator.handle_ppo_update(PPOUpdatePayload(heads=dict.fromkeys(HEADS.names, full)))
    body = Renderer(aggregator.snapshot).render("")[0].decode()
    assert 250 < sum(not line.startswith("#") for line in body.splitlines()) <= 320
