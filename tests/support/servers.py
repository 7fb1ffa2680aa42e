"""What tests with real servers share."""

import json
import urllib.parse
import urllib.request

RULE_GROUPS = frozenset(
    {
        "rl-entropy",
        "rl-entropy-conditions",
        "rl-runs",
        "rl-heads",
        "rl-heads-trends",
        "rl-training",
        "rl-monitoring",
    }
)
"""The groups of the shipped rules, as a server lists them."""


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def query(prometheus, expression):
    """Result of an instant query."""
    return json.loads(get(f"http://{prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"))["data"][
        "result"
    ]
