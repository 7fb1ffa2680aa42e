"""A log handler of the program that raises ends nothing."""

import logging
from contextlib import contextmanager

import pytest

from rl_exporter.log import NAME, exporter_log
from tests.support import ROOT


class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError(record.getMessage())


@contextmanager
def handled_by(handler):
    logger = logging.getLogger(NAME)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


def test_a_handler_that_raises_reaches_nobody():
    with handled_by(Raising()) as logger:
        with pytest.raises(RuntimeError, match="as logging itself does: 7"):
            logger.warning("as logging itself does: %d", 7)
        exporter_log().warning("lost: %d", 7)
        exporter_log().error("lost", exc_info=ValueError())


def test_a_record_names_its_caller_and_its_numbers(caplog):
    with caplog.at_level(logging.INFO, logger=NAME):
        exporter_log().info("%d updates", 7)
    (record,) = caplog.records
    assert (record.name, record.getMessage(), record.pathname) == (NAME, "7 updates", __file__)
    assert record.funcName == "test_a_record_names_its_caller_and_its_numbers"


def test_every_part_of_the_exporter_logs_that_way():
    sources = (ROOT / "exporter").rglob("*.py")
    assert [path.name for path in sources if "getLogger" in path.read_text()] == ["log.py"]
