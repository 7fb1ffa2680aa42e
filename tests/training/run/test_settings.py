"""Configuration files and options."""

import pytest
import yaml

from rl_training.config import PPOConfig, Settings
from rl_training.environments.adapter import make_environment
from rl_training.run.cli import main, parser, settings_from
from rl_training.run.settings import (
    ENVIRONMENTS,
    SECTIONS,
    SettingsError,
    arguments_of,
    build_settings,
    dump,
    read_config,
    settings_of,
)

FULL = """
run: {env: heads, num-envs: 3, updates: 7, run-id: from-file}
environment: {noise: 4, consult: table}
learning:
  learning-rate: 3e-3
  gamma: 1
  entropy-multiplier: {blueprint: 2, op: 0.5}
output:
  {listen: "127.0.0.1:0", log-json: log.jsonl, quiet: true,
   threshold: {blueprint: [0.4, 0], op: [1, 0.25]}, reference: {op: start, slot: 1}}
"""


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return path

    return write


def effective(*arguments):
    return settings_from(parser().parse_args([str(argument) for argument in arguments]))


def test_a_file_sets_what_it_names_and_the_rest_is_default(config):
    settings = effective("--config", config(FULL))
    assert (settings.run.env, settings.run.num_envs, settings.run.updates) == ("heads", 3, 7)
    assert settings.environment["noise"] == 4
    assert settings.environment["episode_steps"] == 16
    assert settings.learning.learning_rate == 3e-3
    assert settings.learning.gamma == 1.0
    assert settings.learning.clip == PPOConfig().clip
    assert settings.output.quiet
    assert settings.output.threshold == {"blueprint": (0.4, 0.0), "op": (1.0, 0.25)}
    assert settings.output.reference == {"op": "start", "slot": 1}


def test_options_win_over_the_file(config):
    file = config(FULL)
    given = ["--num-envs", 9, "--learning-rate", "1e-4", "--entropy-multiplier", "op=3", "--env-arg", "noise=1"]
    given += ["--threshold", "op=0.3,0.2", "--threshold", "slot=0.2,0.1", "--reference", "op=0.7"]
    settings = effective("--config", file, *given, "--no-quiet")
    assert settings.run.num_envs == 9
    assert settings.learning.learning_rate == 1e-4
    assert settings.learning.entropy_multiplier == {"blueprint": 2.0, "op": 3.0}
    assert settings.environment["noise"] == 1
    assert settings.environment["consult"] == "table"
    assert not settings.output.quiet
    assert settings.output.threshold == {"blueprint": (0.4, 0.0), "op": (0.3, 0.2), "slot": (0.2, 0.1)}
    assert settings.output.reference == {"op": 0.7, "slot": 1}


def test_the_printed_configuration_can_be_fed_back(config, capsys):
    arguments = ["--config", str(config(FULL)), "--clip", "0.3", "--checkpoint", "state"]
    assert main([*arguments, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert effective("--config", config(printed)) == effective(*arguments)
    assert dump(effective("--config", config(printed))) == printed


def test_the_printed_configuration_is_whole():
    document = yaml.safe_load(dump(effective()))
    assert list(document) == ["run", "environment", "learning", "output"]
    for name, section in SECTIONS.items():
        assert set(document[name]) == set(settings_of(section))
    assert document["environment"]["episode_steps"] == 28


def test_the_default_of_minibatches_is_as_many_as_there_are_environments_where_these_are_fewer(config):
    assert effective().learning.minibatches == 8
    assert effective("--num-envs", 3).learning.minibatches == 3
    # Printed and fed back, it is one that was given.
    assert effective("--config", config(dump(effective("--num-envs", 3)))) == effective("--num-envs", 3)
    assert effective("--num-envs", 3, "--minibatches", 3).learning.minibatches == 3
    with pytest.raises(SettingsError, match="--minibatches 8 are more than --num-envs 3"):
        effective("--num-envs", 3, "--minibatches", 8)
    with pytest.raises(SettingsError, match="--minibatches 4 are more than --num-envs 3"):
        effective("--num-envs", 3, "--config", config("learning: {minibatches: 4}"))


def test_an_empty_file_changes_nothing(config):
    assert effective("--config", config("")) == effective()
    assert build_settings({}, {}).learning == Settings().learning


def test_every_setting_has_a_description_and_what_to_give():
    for section in SECTIONS.values():
        assert section.__doc__
        for setting in settings_of(section).values():
            assert setting.option.help
            assert setting.remedy != "another value"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lerning: {}", "unknown section 'lerning'; the nearest valid one is 'learning'"),
        ("learning: {learning_rate: 1}", "unknown key 'learning.learning_rate'; the nearest valid one is 'learning.learning-rate'"),
        ("environment: {episode_step: 3}", "unknown key 'environment.episode_step'; the nearest valid one is 'environment.episode_steps'"),
        ("learning: {lr: 1}", "unknown key 'learning.lr'; valid are rollout-steps, epochs, "),
        ("learning: {rollout-steps: 1}\nrun: {num-envs: 1}", "--num-envs 1 with --rollout-steps 1 leaves one step in an update"),
        ("learning: {gamma: 2}", "learning.gamma: 2 is not possible; give a number from 0 to 1"),
        ("learning: {gamma: high}", "learning.gamma: 'high' is not possible; give a number from 0 to 1"),
        ("learning: {gamma: .nan}", "learning.gamma: nan is not possible"),
        ("run: {num-envs: 2.5}", "run.num-envs: 2.5 is not possible; give a whole number >= 1"),
        ("run: {num-envs: true}", "run.num-envs: True is not possible"),
        ("run: {num-envs: '8'}", "run.num-envs: '8' is not possible"),
        ("run: {seed: -1}", "run.seed: -1 is not possible; give a whole number >= 0"),
        ("output: {quiet: 1}", "output.quiet: 1 is not possible; give true or false"),
        ("output: {listen: nowhere}", "output.listen: listen address 'nowhere'"),
        ("learning: {entropy-multiplier: {op: -1}}", "learning.entropy-multiplier"),
        ("output: {threshold: {op: [0.2, 0.4]}}", "output.threshold: head 'op' has critical threshold 0.4 above its warning threshold 0.2"),
        ("output: {threshold: {op: [0.2, -1]}}", "output.threshold: head 'op' has critical threshold -1.0; give a number from 0 (off) to 1"),
        ("output: {threshold: {op: 0.2}}", "output.threshold: {'op': 0.2} is not possible; give WARNING and CRITICAL"),
        ("output: {reference: {op: 0}}", "output.reference: head 'op' has reference 0"),
        ("environment: {workers: many}", "environment.workers: 'many' is not possible; give a whole number >= 0"),
        ("run: {run-id: 1234567}", "run.run-id: 1234567 is not possible; give a text, in quotes where YAML would read a number"),
        ("run: {experiment: 1e3}", "run.experiment: 1000.0 is not possible; give a text, in quotes where YAML would read a number"),
        ("run: {checkpoint: 2026-01-01}", "give a path, in quotes where YAML would read a number, a date or a switch"),
        ("output: {label: {commit: 1234567}}", "give a text for each label, such as cluster=lab, in quotes where YAML would"),
        ("run: {resume-from: -1}", "run.resume-from: '-1' names no checkpoint; give best, or the number of its update"),
        ("run: {resume-from: true}", "run.resume-from: True is not possible; give best, or the number of an update"),
        ("run: {resume-from: 1.5}", "run.resume-from: 1.5 is not possible; give best, or the number of an update"),
        ("run: [1]", "section 'run' holds [1] where keys and values belong"),
        ("just words", "the file holds 'just words'"),
        ("run:\n  seed: 1\n  seed: 2", "line 3: key 'seed' occurs twice; correct the YAML"),
        ("run:\n  seed: [1\noutput: {}", "line 3: "),
        ("run: {\nseed: {{ seed }}}", "line 2: a mapping or a list stands where a key belongs; correct the YAML"),
        ("run:\n  ? [seed]\n  : 1", "line 2: a mapping or a list stands where a key belongs; correct the YAML"),
        ("run: {{ run }}", "line 1: a mapping or a list stands where a key belongs; correct the YAML"),
        ("run:\n  experiment: 2026-02-30", "line 2: '2026-02-30' cannot be read: day is out of range for month; correct the YAML"),
        ("run: {experiment: 2026-01-01 25:00:00}", "line 1: '2026-01-01 25:00:00' cannot be read: hour must be in 0..23"),
        ("run: {2026-02-30: 1}", "line 1: '2026-02-30' cannot be read"),
        ("environment: {size: 0x_}", "line 1: '0x_' cannot be read"),
        ("environment: {size: !!int many}", "line 1: 'many' cannot be read"),
        ("environment: {size: !!bool many}", "line 1: 'many' cannot be read"),
        ("environment: {size: !!timestamp today}", "line 1: 'today' cannot be read"),
        ("environment: {size: 1" + "0" * 5000 + "}", "line 1: '10"),
        ("environment: {size: " + "[" * 5000 + "]" * 5000 + "}", "values lie too deep in each other; correct the YAML"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line_with_the_remedy(text, reason, config, capsys):
    path = config(text)
    assert main(["--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rl-train: error: {path}") or "environment." in error or "--num-envs" in error
    assert reason in error
    assert error.count("\n") == 1


def test_the_number_of_an_update_needs_no_quotes(config):
    assert effective("--config", config("run: {resume-from: 120}")) == effective("--resume-from", "120")
    assert effective("--config", config("run: {resume-from: best}")).run.resume_from == "best"


def test_an_empty_path_is_not_the_current_directory(config):
    with pytest.raises(
        SettingsError, match=r"run\.checkpoint: an empty path leads nowhere; give one, or leave"
    ):
        read_config(config("run: {checkpoint: ''}"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="No such file or directory; give a YAML file that can be read"):
        read_config(tmp_path / "none.yml")


def test_arguments_of_a_registered_environment_are_passed_on():
    settings = effective("--env", "CartPole-v1", "--env-arg", "sutton_barto_reward=true")
    assert settings.environment == {"sutton_barto_reward": True}
    assert effective("--env", "CartPole-v1", "--env-arg", "level={{1}}").environment == {"level": "{{1}}"}


def test_help_lists_the_arguments_of_each_environment(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for environment, options in ENVIRONMENTS.items():
        listed = shown.partition(f"--env-arg of {environment}:\n")[2].partition("--env")[0]
        arguments = arguments_of(options)
        assert [line.split("=")[0].strip() for line in listed.splitlines()] == list(arguments)
        assert all(argument.option.help in listed and argument.option.help for argument in arguments.values())


def test_an_environment_of_ones_own_is_imported_by_module(tmp_path, monkeypatch):
    (tmp_path / "own_environments.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('OwnPole-v0', entry_point='gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    environment = make_environment("own_environments:OwnPole-v0", 2, {})
    assert environment.heads.sizes == (("action", 2),)
