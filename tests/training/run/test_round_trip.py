"""What a file and a checkpoint say of the settings of a run is what the run was given."""

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_training.config import RunConfig, Settings
from rl_training.run.cli import main, parser, settings_from
from rl_training.run.kept_settings import kept_settings, parsed_settings
from rl_training.run.settings import SECTIONS, SettingsError, build_settings, dump, read_config, settings_of
from tests.support.settings_values import ARGUMENTS, TEXTS, WORDS

MAPPINGS = {
    "entropy-multiplier": st.floats(0, 1e6),
    "entropy-target": st.floats(0.01, 0.99),
    "threshold": st.tuples(st.floats(0.5, 1), st.floats(0, 0.5)),
    "reference": st.sampled_from(["maximum", "start", 0.7]),
    "label": TEXTS,
}
NAMES = WORDS | st.text(min_size=1, max_size=8) | st.sampled_from(["commit", "cluster"])
"""Of heads and labels."""


KNOWN = [(name, key) for name, section in SECTIONS.items() for key in settings_of(section) if key != "notify"]
"""Every setting but the one that a printed configuration hides."""


@st.composite
def accepted(draw):
    """The values of some settings, by section and key, as options give them."""
    options = {
        "run": {"env": "CartPole-v1"},
        "environment": draw(st.dictionaries(NAMES, ARGUMENTS, max_size=2)),
    }
    for name, key in draw(st.lists(st.sampled_from(KNOWN), max_size=8, unique=True)):
        setting = settings_of(SECTIONS[name])[key]
        value = draw(st.dictionaries(NAMES, MAPPINGS[key], max_size=2) if key in MAPPINGS else TEXTS)
        with suppress(SettingsError):
            options.setdefault(name, {})[key] = setting.check(value, strict=key in MAPPINGS)
    return options


@given(accepted(), st.booleans())
def test_every_accepted_setting_can_be_printed_and_fed_back(tmp_path_factory, options, ascii_only):
    try:
        settings = build_settings({}, options)
    except SettingsError:
        return  # two of them do not go together
    file = tmp_path_factory.getbasetemp() / "printed.yml"
    file.write_bytes(dump(settings, ascii_only=ascii_only).encode("ascii" if ascii_only else "utf-8"))
    assert build_settings(read_config(file), {}) == settings


@given(st.dictionaries(NAMES, ARGUMENTS, min_size=2, max_size=3))
def test_a_checkpoint_keeps_every_argument_as_it_was(arguments):
    kept = parsed_settings(kept_settings(Settings(run=RunConfig(env="CartPole-v1"), environment=arguments)))
    assert kept.left_out == []
    assert kept.values["environment"] == arguments
    assert kept.values["run"] == {"env": "CartPole-v1"}


@pytest.mark.parametrize(
    "options",
    [
        ["--run-id", "1e3"],
        ["--experiment", "2026-01-01"],
        ["--label", "commit=1234e56"],
        ["--threshold", "1e3=0.5,0.2"],
        ["--checkpoint", "1e3"],
        ["--env", "CartPole-v1", "--env-arg", "x=(4,4)"],
        ["--env", "CartPole-v1", "--env-arg", "x=1j", "--env-arg", "y={'b','a',(1,2)}", "--env-arg", "z={(1,2): ...}"],
        ["--env", "CartPole-v1", "--env-arg", "x=" + "[" * 150 + "]" * 150, "--env-arg", "y=0x" + "f" * 9000],
        ["--env", "CartPole-v1", "--env-arg", "x=" + "-" * 5000 + "1", "--env-arg", "y={1: 2, '1': 3}"],
    ],
)  # fmt: skip
def test_options_come_back_from_the_printed_file(options, tmp_path, capsys):
    assert main([*options, "--print-config"]) == 0
    file = tmp_path / "printed.yml"
    file.write_text(capsys.readouterr().out)
    given_, found = (
        settings_from(parser().parse_args(list(map(str, o)))) for o in (options, ["--config", file])
    )
    assert found == given_


NO_FILE = "run: {env: CartPole-v1}\nenvironment: {size: 3, x: !!pairs [a: 2026-01-01]}"
"""An argument that YAML reads and nothing writes."""


def test_what_no_file_can_hold_is_one_line(tmp_path, capsys):
    (tmp_path / "odd.yml").write_text(NO_FILE)
    assert main(["--config", str(tmp_path / "odd.yml"), "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "rl-train: error: environment.x: no file can hold its value: no text stands for datetime.date(2026, 1, 1); "
        "give another one, or leave --print-config out"
    )


def test_a_checkpoint_leaves_out_the_argument_that_it_cannot_hold_and_nothing_else(tmp_path):
    (tmp_path / "odd.yml").write_text(NO_FILE + "\nlearning: {precision: bfloat16}")
    kept = parsed_settings(kept_settings(build_settings(read_config(tmp_path / "odd.yml"), {})))
    assert kept.left_out == ["x"]
    assert kept.values["environment"] == {"size": 3}
    assert kept.values["learning"]["precision"] == "bfloat16"


def test_a_literal_in_a_file_is_written_as_after_env_arg(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("environment: {x: !literal '(4, 4)', y: [!literal '{1}', 2026-01-01]}")
    assert read_config(file)["environment"] == {"x": (4, 4), "y": [{1}, date(2026, 1, 1)]}


@pytest.mark.parametrize(
    "text", ["!literal (4", "!literal [4]", "!literal 'import os'", "{? !literal '[1]' : 2}"]
)
def test_a_literal_that_is_none_is_one_line(text, tmp_path, capsys):
    (tmp_path / "config.yml").write_text(f"environment:\n  x: {text}")
    assert main(["--config", str(tmp_path / "config.yml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "config.yml, line 2: " in line
    assert line.endswith("; correct the YAML")
