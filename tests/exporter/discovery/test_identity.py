import socket

import pytest

from rl_exporter.discovery.identity import advertised, parse_advertised
from rl_exporter.server.listen import ListenAddress

NAME = socket.gethostname()


@pytest.mark.parametrize(
    ("listening", "given", "expected"),
    [
        (("127.0.0.1", 9), None, "127.0.0.1:9"),
        (("10.1.2.3", 9), None, "10.1.2.3:9"),
        (("fd00::1", 9), None, "[fd00::1]:9"),
        (("0.0.0.0", 9), None, f"{NAME}:9"),
        (("::", 9), None, f"{NAME}:9"),
        (("0.0.0.0", 9), "node1", "node1:9"),
        (("0.0.0.0", 9), "gateway.example.org:4000", "gateway.example.org:4000"),
        (("0.0.0.0", 9), "[fd00::1]", "[fd00::1]:9"),
        (("0.0.0.0", 9), "[fd00::1]:7", "[fd00::1]:7"),
    ],
)
def test_others_are_told_an_address_that_they_can_reach(listening, given, expected):
    assert advertised(ListenAddress(*listening), given) == expected


@pytest.mark.parametrize(
    "text", ["", "a b", "a:0", "a:65536", "a:b", "a:", "fd00::1", "http://a", "a/b", "[::1"]
)
def test_what_is_no_address_is_one_line_with_the_remedy(text):
    with pytest.raises(ValueError, match=r"is not possible; give HOST, HOST:PORT or \[IPV6\]:PORT"):
        parse_advertised(text)
