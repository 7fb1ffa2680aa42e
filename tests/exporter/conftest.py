"""The terminal of the tests: many colours, whatever the terminal they are started from has. Runs that end with a test."""

import pytest

import rl_exporter
from tests.support.ports import free_ports
from tests.support.served_again import HEADS


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TEXTUAL_THEME", "TEXTUAL_FILTERS", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")


@pytest.fixture
def serve():
    """``rl_exporter.serve``; what it returned is closed at the end of the test."""
    made = []

    def call(heads=HEADS, **options):
        made.append(rl_exporter.serve(heads, **{"listen": "127.0.0.1:0", "linger": 0, **options}))
        return made[-1]

    yield call
    for recorder in made:
        recorder.close()


@pytest.fixture
def fixed():
    """An address with a port that nobody has."""
    return f"127.0.0.1:{free_ports()[0]}"
