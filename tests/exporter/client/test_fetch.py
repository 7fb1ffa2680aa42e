"""Whatever answers at an address: a snapshot, or one clear line, in bounded time and memory."""

import socket
import time

import pytest

from rl_exporter import ListenAddress, MetricsServer
from rl_exporter.client.addresses import parse_target
from rl_exporter.client.fetch import Fetcher, UnreachableError, tls_context
from rl_exporter.server.gate import Gate
from tests.support.bad_servers import BAD, BODY, answering, flooding, http, says
from tests.support.certificates import Certificates
from tests.support.panel_runs import ratio_run


def test_a_run_is_fetched():
    with answering(says(http(BODY))) as address:
        sighting = Fetcher().fetch(parse_target(address))
    assert sighting.snapshot == ratio_run(0.4).snapshot()
    assert sighting.clock_offset == 0.0


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_run_is_one_clear_line(name):
    talk, reason = BAD[name]
    with answering(talk) as address, pytest.raises(UnreachableError, match=reason) as raised:
        Fetcher(timeout=20 if talk is flooding else 0.5).fetch(parse_target(address))
    assert "\n" not in str(raised.value)
    assert "object at 0x" not in str(raised.value)
    assert len(str(raised.value)) < 250


def test_a_stray_byte_in_a_label_is_no_reason_to_show_nothing():
    body = BODY.replace(b"updates_total{run", b'updates_total{x="\xff",run')
    with answering(says(http(body))) as address:
        assert Fetcher().fetch(parse_target(address)).snapshot.tamiyo.updates == 1


def test_nobody_there_and_no_such_name():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=r"Connection refused \(is the run up\?\)"):
        Fetcher().fetch(parse_target(address))
    with pytest.raises(UnreachableError, match="the host name cannot be resolved"):
        Fetcher().fetch(parse_target("no-such-host.invalid"))


def test_credentials_in_an_address_are_refused_and_not_repeated():
    for address in (
        "http://me:s%40cret@trainer:28008",
        "me:s%40cret@trainer",
        "https://s%40cret@trainer/metrics",
    ):
        with pytest.raises(ValueError, match=r"'trainer' holds credentials.*--http.config.file") as raised:
            parse_target(address)
        assert "cret" not in str(raised.value)
    for address in ("ftp://me:s%40cret@trainer", "http://me:s%40cret@trainer:port", "http://me:s%40cret@"):
        with pytest.raises(ValueError, match=r"holds credentials|no address of a run") as raised:
            parse_target(address)
        assert "cret" not in str(raised.value)


def test_the_clock_of_the_run_counts():
    answer = http(BODY, extra="Date: Wed, 01 Jan 2020 00:00:00 GMT\r\n")
    with answering(says(answer)) as address:
        offset = Fetcher().fetch(parse_target(address)).clock_offset
    assert offset == pytest.approx(1577836800 - time.time(), abs=60)
    with answering(says(http(BODY, extra="Date: yesterday\r\n"))) as address:
        assert Fetcher().fetch(parse_target(address)).clock_offset == 0.0


def test_a_connection_is_kept_and_a_new_one_made_when_it_broke():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = ListenAddress(*free.getsockname())
    with MetricsServer(ratio_run(0.4).snapshot, address) as server:
        fetcher, target = Fetcher(), parse_target(server.url)
        for _ in range(3):
            fetcher.fetch(target)
    with pytest.raises(UnreachableError):
        fetcher.fetch(target)
    with MetricsServer(ratio_run(0.4).snapshot, address):
        assert fetcher.fetch(target).snapshot.tamiyo.updates == 1


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A run behind TLS, and the file of its authority."""
    certificates = Certificates(tmp_path_factory.mktemp("tls"))
    gate = Gate(certificates.web_config())
    with MetricsServer(ratio_run(0.4).snapshot, ListenAddress(port=0), gate=gate) as server:
        yield server.url, certificates.authority_file


def test_a_certificate_is_trusted_only_with_its_authority(secure):
    url, authority = secure
    with pytest.raises(UnreachableError, match=r"not trusted \(.*--ca-file, or --insecure"):
        Fetcher().fetch(parse_target(url))
    assert Fetcher(tls_context(authority)).fetch(parse_target(url)).snapshot.tamiyo.updates == 1
    other = url.replace("127.0.0.1", "localhost")
    with pytest.raises(UnreachableError, match=r"not trusted.*[Hh]ostname"):
        Fetcher(tls_context(authority)).fetch(parse_target(other))


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_insecure_accepts_any_certificate(secure):
    assert Fetcher(tls_context(insecure=True)).fetch(parse_target(secure[0])).snapshot.tamiyo.updates == 1


def test_tls_where_there_is_none():
    with (
        answering(says(http(BODY))) as address,
        pytest.raises(UnreachableError, match="does not speak TLS there"),
    ):
        Fetcher().fetch(parse_target(f"https://{address}"))


def test_an_authority_file_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        tls_context(tmp_path / "nothing.pem")
    (tmp_path / "empty.pem").write_text("hello")
    with pytest.raises(ValueError, match="holds no PEM certificate"):
        tls_context(tmp_path / "empty.pem")
