"""What tests with real servers share."""

import json
import urllib.parse
import urllib.request


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def query(prometheus, expression):
    """Result of an instant query."""
    return json.loads(get(f"http://{prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"))["data"][
        "result"
    ]
