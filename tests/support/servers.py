"""What tests with real servers share."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def until(condition, seconds=90):
    """What ``condition`` returns once it is true; it may fail to connect before that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            found = None
        if found:
            return found
        time.sleep(0.1)
    return pytest.fail(f"{condition} stayed false for {seconds} s")


def query(prometheus, expression):
    """Result of an instant query."""
    return json.loads(get(f"http://{prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"))["data"][
        "result"
    ]
