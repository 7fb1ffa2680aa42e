"""The web configuration file: what it may say, and one clear line for what it may not."""

import io
import ssl
import subprocess
import sys

import bcrypt
import pytest
import urllib3
import yaml

from rl_exporter import ListenAddress
from rl_exporter.alerting.receiver import PageReceiver
from rl_exporter.server.config_file import ConfigError
from rl_exporter.server.gate import Gate
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.web_config import LoadedWebConfig
from tests.support import ROOT
from tests.support.certificates import HASH, PASSWORD, Certificates

CERTIFICATE = {"cert_file": "server.pem", "key_file": "server.key"}
MUTUAL = {**CERTIFICATE, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


def loaded(certificates, document):
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    path = certificates.folder / "web.yml"
    path.write_text(text)
    return LoadedWebConfig(path)


def test_an_empty_file_asks_for_nothing(certificates):
    config = loaded(certificates, "")
    assert config.tls is None
    assert config.config.basic_auth_users == {}


def test_every_key_of_the_format_that_has_an_effect_is_taken(certificates):
    suites = [
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    ]
    document = {
        "tls_server_config": {
            **MUTUAL,
            "client_allowed_sans": ["prometheus.example"],
            "min_version": "TLS12",
            "max_version": "TLS13",
            "cipher_suites": suites,
            "prefer_server_cipher_suites": True,
        },
        "http_server_config": {"http2": True, "headers": {"X-Content-Type-Options": "nosniff"}},
        "basic_auth_users": {"prometheus": HASH},
    }
    config = loaded(certificates, document)
    assert config.tls.verify_mode is ssl.CERT_REQUIRED
    assert config.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    chosen = {cipher["name"] for cipher in config.tls.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert chosen == {"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA"}
    assert config.allows_peer({"subjectAltName": (("DNS", "prometheus.example"),)})
    assert not config.allows_peer({"subjectAltName": (("DNS", "grafana.example"),)})
    assert not config.allows_peer({})


def test_paths_are_relative_to_the_file(certificates, monkeypatch):
    monkeypatch.chdir("/")
    assert loaded(certificates, {"tls_server_config": CERTIFICATE}).tls is not None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"tls_server_config": {"cert_fil": "x"}}, r"unknown key 'tls_server_config.cert_fil'; the nearest one is 'cert_file'"),
        ({"basic_auth_user": {}}, "unknown key 'basic_auth_user'; the nearest one is 'basic_auth_users'"),
        ({"http_server_config": {"header": {}}}, "unknown key 'http_server_config.header'; the nearest one is 'headers'"),
        ({"rate_limit": {}}, "unknown key 'rate_limit'"),
        ({"tls_server_config": {"cert_file": "server.pem"}}, "tls_server_config.key_file: Field required"),
        ({"tls_server_config": {**CERTIFICATE, "cert_file": "none.pem"}}, "No such file.*none.pem"),
        ({"tls_server_config": {**CERTIFICATE, "cert_file": "ca.pem"}}, "the key is that of another certificate"),
        ({"tls_server_config": {**CERTIFICATE, "key_file": "web.yml"}}, "no certificate and key as PEM"),
        ({"tls_server_config": {**CERTIFICATE, "client_auth_type": "RequireAnyClientCert"}}, "client_auth_type: Input should be 'NoClientCert'"),
        ({"tls_server_config": {**CERTIFICATE, "client_auth_type": "RequireAndVerifyClientCert"}}, "give their authority as client_ca_file"),
        ({"tls_server_config": {**CERTIFICATE, "client_ca_file": "ca.pem"}}, "set client_auth_type"),
        ({"tls_server_config": {**CERTIFICATE, "client_allowed_sans": ["x"]}}, "client_allowed_sans needs"),
        ({"tls_server_config": {**CERTIFICATE, "min_version": "TLS10"}}, "min_version: Input should be 'TLS12' or 'TLS13'"),
        ({"tls_server_config": {**CERTIFICATE, "cipher_suites": ["TLS_X_WITH_Y"]}}, "cipher suite 'TLS_X_WITH_Y' is not known"),
        ({"tls_server_config": {**CERTIFICATE, "cipher_suites": ["TLS_NONE"]}}, "cipher suite 'TLS_NONE' is not known"),
        ({"tls_server_config": {**CERTIFICATE, "min_version": "TLS13", "max_version": "TLS12"}}, "min_version is above max_version"),
        ({"basic_auth_users": {"u": "plain"}}, "basic_auth_users.u: this is no bcrypt hash"),
        ({"basic_auth_users": {"u": HASH.replace("$04$", "$31$")}}, "the cost of this hash is 31"),
        ({"basic_auth_users": {"a:b": HASH}}, "no colon"),
        ({"http_server_config": {"headers": {"Server": "x"}}}, "header 'Server' cannot be set"),
        ({"http_server_config": {"headers": {"X-Frame-Options": "maybe"}}}, "takes deny or sameorigin"),
        ({"http_server_config": {"headers": {"X-XSS-Protection": "1\r\nX: y"}}}, "printable ASCII"),
        (["a"], "the file: Input should be a valid dictionary"),
        ("a: [", "give a YAML file that can be read"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("[" * 5000, "give a YAML file that can be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line_with_file_key_and_reason(certificates, document, said):
    with pytest.raises(ConfigError, match=said) as told:
        loaded(certificates, document)
    assert str(told.value).startswith(f"'{certificates.folder}/web.yml': ")
    assert "\n" not in str(told.value)


def test_a_run_without_a_web_configuration_imports_neither_pydantic_nor_bcrypt():
    code = """
import sys, rl_exporter
rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0).close()
sys.exit(bool({"pydantic", "bcrypt"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", ["pydantic", "bcrypt"])
def test_without_its_packages_it_says_which_extra_to_install(package, tmp_path):
    code = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == {package!r} else found(name, *more)
import rl_exporter
try:
    rl_exporter.serve({{"a": 2}}, web_config="web.yml")
except ValueError as error:
    sys.exit(str(error))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stderr.strip() == f"a web configuration needs {package}; pip install 'rl-policy-exporter[web]'"


def test_the_example_is_a_configuration(tmp_path):
    certificates = Certificates(tmp_path)
    certificates.issue("run", "127.0.0.1")
    example = (ROOT / "examples/web.yml").read_text()
    config = loaded(certificates, example)
    assert config.tls.verify_mode is ssl.CERT_REQUIRED
    assert bcrypt.checkpw(b"change me", config.config.basic_auth_users["prometheus"].encode())


@pytest.mark.slow
@pytest.mark.parametrize("command", [["rl_training"], ["rl_exporter.cli.main"]])
def test_a_bad_file_is_one_line_and_status_2_before_anything_starts(command, tmp_path):
    (tmp_path / "web.yml").write_text("basic_auth_user: {}")
    given = ["--listen", "127.0.0.1:0", "--web.config.file", str(tmp_path / "web.yml")]
    if command == ["rl_training"]:
        run = [sys.executable, "-m", "rl_training", "--env", "heads", "--updates", "1", *given]
    else:
        code = "import sys; from rl_exporter.cli.main import main; sys.exit(main())"
        run = [sys.executable, "-c", code, "pages", *given]
    refused = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "unknown key 'basic_auth_user'" in refused.stderr
    assert refused.stdout == ""


def test_pages_are_received_behind_a_password(tmp_path):
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alertmanager: '{HASH}'}}")
    gate = Gate(tmp_path / "web.yml")
    out = io.StringIO()
    with HttpServer(PageReceiver(out), ListenAddress(port=0), gate=gate) as server:
        assert urllib3.request("GET", f"{server.url}/-/healthy").status == 401
        login = urllib3.make_headers(basic_auth=f"alertmanager:{PASSWORD}")
        assert urllib3.request("GET", f"{server.url}/-/healthy", headers=login).status == 200


def test_the_callback_of_stable_baselines_serves_behind_the_file(tmp_path):
    from rl_exporter.integrations.sb3 import HeadEntropyCallback
    from tests.support.sb3_reach import small_ppo

    (tmp_path / "web.yml").write_text("basic_auth_user: {}")
    callback = HeadEntropyCallback(listen="127.0.0.1:0", linger=0, web_config=tmp_path / "web.yml")
    with pytest.raises(ValueError, match="unknown key 'basic_auth_user'"):
        small_ppo().learn(16, callback=callback)
