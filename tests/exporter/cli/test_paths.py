"""Paths that somebody gives to rl-exporter."""

import pytest

from rl_exporter.cli.main import main


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    "command",
    [
        ["bundle", "--out"],
        ["bundle", "--out", "new", "--into", "existing", "--prometheus"],
        ["bundle", "--out", "new", "--into", "existing", "--alertmanager"],
        ["pages", "--listen", "nowhere:1", "--secret-file"],
        ["pages", "--listen", "nowhere:1", "--web.config.file"],
        ["targets", "list"],
        ["targets", "prune"],
        ["targets", "list", "--http.config.file"],
        ["watch", "--once", "--targets"],
        ["watch", "--once", "--ca-file"],
        ["watch", "--once", "--http.config.file"],
    ],
    ids=" ".join,
)
def test_the_path_of_an_unset_variable_is_not_the_current_directory(
    command, empty, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    try:
        status = main([*command, empty])
    except SystemExit as exit_:
        status = exit_.code
    assert status == (3 if command[0] == "watch" else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rl-exporter {command[0]}")
    assert "an empty path leads nowhere; give one, or leave the option out" in line
    assert list(tmp_path.iterdir()) == []
