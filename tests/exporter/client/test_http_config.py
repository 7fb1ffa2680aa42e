"""The client's configuration file: a reader behind TLS and passwords, and one clear line for what cannot be."""

import base64

import pytest

from rl_exporter import ListenAddress, MetricsServer
from rl_exporter.cli.main import main
from rl_exporter.client.addresses import parse_target
from rl_exporter.client.fetch import Fetcher, UnreachableError, read_credentials
from rl_exporter.server.gate import Gate
from tests.support import ROOT
from tests.support.certificates import HASH, PASSWORD, Certificates
from tests.support.panel_runs import ratio_run

USERS = {"prometheus": HASH}
PAIR = {"cert_file": "client.pem", "key_file": "client.key"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.issue("client", "prometheus.example")
    (made.folder / "password").write_text(PASSWORD + "\n")
    (made.folder / "wrong").write_text("wrong\n")
    return made


@pytest.fixture(scope="module")
def secured(certificates):
    """A run that asks for a certificate and a password."""
    gate = Gate(certificates.mutual(users=USERS))
    with MetricsServer(ratio_run(0.4).snapshot, ListenAddress(port=0), gate=gate) as server:
        yield server


def client(certificates, login="password", **tls):
    login = {"username": "prometheus", "password_file": login}
    return certificates.write(
        "client.yml", {"basic_auth": login, "tls_config": {"ca_file": "ca.pem", **PAIR, **tls}}
    )


def fetched(server, path):
    return Fetcher.showing(read_credentials(path)).fetch(parse_target(server.url)).snapshot


def test_a_run_behind_certificates_and_a_password_is_read(secured, certificates):
    assert fetched(secured, client(certificates)).tamiyo.updates == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"login": "wrong"}, "HTTP status 401.*--http.config.file"),
        ({"cert_file": "server.pem", "key_file": "server.key"}, None),
        ({"server_name": "other.example"}, "not trusted"),
    ],
)
def test_who_may_not_read_learns_why(secured, certificates, changes, said):
    path = client(certificates, **changes)
    if said is None:  # the same authority has signed it
        assert fetched(secured, path).tamiyo.updates == 1
        return
    with pytest.raises(UnreachableError, match=said):
        fetched(secured, path)


def test_without_a_certificate_the_connection_fails(secured, certificates):
    path = certificates.write("bare.yml", {"tls_config": {"ca_file": "ca.pem"}})
    with pytest.raises(UnreachableError):
        fetched(secured, path)


def test_a_server_may_have_another_name_in_its_certificate(certificates):
    certificates.issue("named", "run.example")
    document = {"tls_server_config": {"cert_file": "named.pem", "key_file": "named.key"}}
    gate = Gate(certificates.write("named.yml", document))
    path = certificates.write(
        "by-name.yml", {"tls_config": {"ca_file": "ca.pem", "server_name": "run.example"}}
    )
    with MetricsServer(ratio_run(0.4).snapshot, ListenAddress(port=0), gate=gate) as server:
        assert fetched(server, path).tamiyo.updates == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"basic_auth": {"user": "x"}}, "unknown key 'basic_auth.user'; the nearest one is 'username'"),
        ({"bearer_token": "x"}, "unknown key 'bearer_token'"),
        ({"basic_auth": {"username": "x"}}, "give one of password and password_file"),
        ({"basic_auth": {"username": "x", "password": "y", "password_file": "z"}}, "give one of password and"),
        ({"basic_auth": {"username": "x", "password_file": "none"}}, "none': No such file"),
        ({"tls_config": {"cert_file": "x"}}, "belong together"),
        ({"tls_config": {"cert_file": "ca.pem", "key_file": "client.key"}}, "no certificate and its key"),
        ({"tls_config": {"ca_file": "password"}}, "holds no PEM certificate"),
    ],
)
def test_what_cannot_be_used_is_one_line(certificates, document, said):
    with pytest.raises(ValueError, match=said) as told:
        read_credentials(certificates.write("bad.yml", document))
    assert "\n" not in str(told.value)


def test_watch_reads_a_secured_run(secured, certificates, capsys):
    assert main(["watch", secured.url, "--once", "--http.config.file", str(client(certificates))]) == 1
    assert "running   update 1" in capsys.readouterr().out
    assert main(["watch", secured.url, "--once"]) == 3
    assert "not trusted" in capsys.readouterr().err


def test_the_example_is_a_configuration(certificates):
    certificates.issue("prometheus", "prometheus.example.org")
    path = certificates.folder / "example.yml"
    path.write_text((ROOT / "examples/http.yml").read_text())
    assert read_credentials(path).basic_auth == f"prometheus:{PASSWORD}"


def test_watch_takes_trust_from_one_place(certificates, capsys):
    options = ["--once", "--insecure", "--http.config.file", str(client(certificates))]
    assert main(["watch", *options]) == 3
    assert "leave out --ca-file and --insecure" in capsys.readouterr().err


def test_targets_list_probes_a_secured_run_by_the_scheme_of_its_entry(certificates, tmp_path, capsys):
    import rl_exporter

    register = rl_exporter.Discovery(tmp_path)
    options = {"web_config": certificates.mutual(users=USERS), "register": register}
    with rl_exporter.serve({"a": 2}, run_id="secret", listen="127.0.0.1:0", linger=0, **options):
        assert '"__scheme__": "https"' in (tmp_path / "secret.run.json").read_text()
        assert main(["targets", "list", str(tmp_path), "--http.config.file", str(client(certificates))]) == 0
        assert "  up" in capsys.readouterr().out
        assert main(["targets", "list", str(tmp_path)]) == 0
        assert "  silent" in capsys.readouterr().out
        assert main(["targets", "list", str(tmp_path), "--http.config.file", "none.yml"]) == 2
        assert "none.yml': No such file" in capsys.readouterr().err


def test_no_password_is_shown(certificates):
    credentials = read_credentials(client(certificates))
    assert PASSWORD not in repr(credentials)
    assert base64.b64encode(PASSWORD.encode()).decode() not in repr(credentials)
