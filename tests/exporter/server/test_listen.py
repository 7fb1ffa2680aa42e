"""Where a server listens: the words for it, the next free port, and what to do about a port in use."""

import pickle
import socket

import pytest

import rl_exporter
from rl_exporter.cli.main import main
from rl_exporter.server import listen
from rl_exporter.server.listen import AUTO, PAGES_PORT, ListenAddress, ListenError, parse_listen_address
from tests.support.ports import free_ports


@pytest.fixture
def three(monkeypatch):
    """The first of three ports that nobody listens on, in place of those that ``auto`` tries."""
    ports = free_ports(3)
    monkeypatch.setattr(listen, "AUTO_PORTS", ports)
    return ports[0]


def taken(port):
    return socket.create_server(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("text", "host"), [("auto", "127.0.0.1"), (":auto", "0.0.0.0"), ("[::1]:auto", "::1"), ("lab:auto", "lab")]
)
def test_auto_stands_in_place_of_a_port(text, host):
    assert parse_listen_address(text, auto=True) == (host, AUTO)
    with pytest.raises(ValueError, match="listen address"):
        parse_listen_address(text)


def test_auto_begins_with_the_default_and_leaves_the_port_of_the_pages_alone():
    ports = [address.port for address in ListenAddress("::1", AUTO).candidates()]
    assert ports[:3] == [28008, 28010, 28011]
    assert PAGES_PORT not in ports
    assert str(ListenAddress("::1", AUTO)) == "[::1]:auto"
    assert ListenAddress().candidates() == (ListenAddress(),)


def test_auto_takes_the_next_free_port_and_prints_it(three, capsys):
    with (
        rl_exporter.serve({"a": 2}, run_id="one", listen="auto", linger=0) as one,
        taken(three + 1),
        rl_exporter.serve({"a": 2}, run_id="two", listen="auto", linger=0) as two,
    ):
        assert (one.url, two.url) == (f"http://127.0.0.1:{three}", f"http://127.0.0.1:{three + 2}")
    assert capsys.readouterr().out == f"run one: {one.url}/metrics\nrun two: {two.url}/metrics\n"


def test_a_given_address_is_not_printed(capsys):
    rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0).close()
    assert capsys.readouterr().out == ""


def test_where_every_port_is_in_use_auto_says_so(three):
    with taken(three), taken(three + 1), taken(three + 2), pytest.raises(ListenError) as caught:
        rl_exporter.serve({"a": 2}, listen="auto")
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:auto: ports {three} to {three + 2} are in use; "
        'give another address with listen="HOST:PORT" (port 0 takes a free one)'
    )


def test_another_error_than_a_port_in_use_ends_the_search():
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:auto: ") as caught:
        rl_exporter.serve({"a": 2}, listen="192.0.2.1:auto")
    assert not caught.value.in_use


@pytest.mark.parametrize(("host", "word"), [("127.0.0.1", "auto"), ("0.0.0.0", "0.0.0.0:auto")])
def test_a_port_in_use_names_the_argument_to_users_of_python(host, word):
    with socket.create_server((host, 0)) as holder:
        address = f"{host}:{holder.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as caught:
            rl_exporter.serve({"a": 2}, listen=address)
    assert str(caught.value) == (
        f'cannot listen on {address}: the port is in use; give another address with listen="HOST:PORT" '
        f'(port 0 takes a free one), or take the next free port with listen="{word}"'
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_pages_name_the_option_and_take_no_port_that_alertmanager_would_not_know(capsys):
    with taken(0) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        assert main(["pages", "--listen", address]) == 2
    assert capsys.readouterr().err == (
        f"rl-exporter: error: cannot listen on {address}: the port is in use; "
        "give another address with --listen HOST:PORT (port 0 takes a free one)\n"
    )
    with pytest.raises(SystemExit):
        main(["pages", "--listen", "auto"])
    assert "listen address 'auto' is not HOST:PORT" in capsys.readouterr().err
