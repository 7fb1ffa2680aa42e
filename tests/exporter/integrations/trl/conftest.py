"""The language model of these tests, written once a session."""

import pytest

from tests.support import tiny_language


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The path of a language model of 50 words."""
    return tiny_language.write_model(tmp_path_factory.mktemp("language") / "model")
