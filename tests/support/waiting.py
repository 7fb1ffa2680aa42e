"""Waiting for what a test asserts, however slow the machine is."""

import asyncio
import time
import urllib.error

import pytest


def until(condition, seconds=120, every=0.05):
    """What ``condition`` returns once it is true; before that, nothing may listen yet, or a file not be there."""
    deadline = time.monotonic() + seconds
    while not (found := _attempt(condition)):
        if time.monotonic() > deadline:
            pytest.fail(f"{condition} stayed false for {seconds} s")
        time.sleep(every)
    return found


def _attempt(condition):
    try:
        return condition()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return None


def until_equal(ask, expected, seconds=120):
    """Wait until ``ask`` returns ``expected``; fail with what it returned last."""
    deadline = time.monotonic() + seconds
    while (found := ask()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


async def until_async(condition, pilot=None, seconds=60):
    """Wait for what a background task brings about, while the event loop, or the pilot's app, runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await (pilot.pause(0.02) if pilot else asyncio.sleep(0.02))
