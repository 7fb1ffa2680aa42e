"""`rl-train --notify`: a run that fails says so, and its webhook is shown to nobody."""

import pytest

from rl_training.run import app
from rl_training.run.cli import main
from tests.support.small_runs import FIXED
from tests.support.webhooks import webhook


def test_a_run_that_fails_says_so(monkeypatch, capsys):
    def fail(*_arguments, **_options):
        raise ArithmeticError("odd")

    monkeypatch.setattr(app, "train", fail)
    with webhook() as hook:
        assert main([*FIXED, "--run-id", "grasp", "--notify", hook.url]) == 1
        [post] = hook.posts
        assert [alert["annotations"]["summary"] for alert in post["alerts"]] == [
            "Run grasp: the run has failed"
        ]
        said = capsys.readouterr()
        assert "T0KEN" not in said.out + said.err


def test_a_run_that_completes_says_nothing():
    with webhook() as hook:
        assert main([*FIXED, "--updates", "1", "--notify", hook.url]) == 0
        assert hook.posts == []


def test_a_run_takes_the_url_from_a_file_and_shows_the_file(tmp_path, capsys):
    file = tmp_path / "url"
    file.write_text("https://hooks.slack.com/services/T0KEN")
    assert main(["--print-config", "--notify", f"@{file}"]) == 0
    assert f"notify: '@{file}'" in capsys.readouterr().out


def test_the_configuration_hides_a_url(tmp_path, capsys):
    assert main(["--print-config", "--notify", "https://hooks.slack.com/services/T0KEN"]) == 0
    shown = capsys.readouterr().out
    assert "notify: (hidden)\n" in shown
    assert "T0KEN" not in shown
    config = tmp_path / "config.yml"
    config.write_text(shown)
    assert main(["--config", str(config)]) == 2
    assert "output.notify: no URL of a webhook; give the URL" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["T0KEN", "ftp://example.org/T0KEN"])
def test_what_is_no_webhook_is_refused_in_one_line(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*FIXED, "--notify", given])
    said = capsys.readouterr().err
    assert said.startswith("rl-train: error: argument --notify: no URL of a webhook; give")
    assert said.count("\n") == 1
    assert "T0KEN" not in said
