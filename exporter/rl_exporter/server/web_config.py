"""The web configuration file: who may read, in the format of Prometheus' exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rl_exporter.server.config_file import ConfigError, FilePath, Section, load

_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_HIGHEST_COST = 14
"""A login that is not in the cache costs the trainer's machine a second here, and twice that at the next."""

_VALUES = {
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": {"nosniff"},
    "X-Frame-Options": {"deny", "sameorigin"},
    "X-XSS-Protection": None,
    "Content-Security-Policy": None,
}
"""Headers that exporter-toolkit lets a file set, and the values of those that have only some."""

_SUITES_OF_TLS13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATES = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def _bcrypt_hash(text: str) -> str:
    found = _HASH.fullmatch(text)
    if not found:
        raise ValueError(
            "this is no bcrypt hash; make one with htpasswd -nBC 10 '' (its password is never stored)"
        )
    if not 4 <= int(found[1]) <= _HIGHEST_COST:
        raise ValueError(f"the cost of this hash is {int(found[1])}; give one from 4 to {_HIGHEST_COST}")
    return text


def _user(name: str) -> str:
    if not name or ":" in name:
        raise ValueError("a user's name has one character or more, and no colon")
    return name


def _openssl_name(suite: str) -> str:
    """OpenSSL's name of a cipher suite of TLS 1.2 that has Go's (IANA's) name."""
    name = suite.removeprefix("TLS_").replace("_WITH_", "_").removeprefix("RSA_").replace("_", "-")
    name = name.replace("AES-", "AES").replace("-CBC-SHA", "-SHA").replace("POLY1305-SHA256", "POLY1305")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(name)
    except ssl.SSLError as error:
        raise ValueError(f"cipher suite {suite!r} is not known here; leave it out") from error
    return name


def _suites(suites: tuple[str, ...]) -> tuple[str, ...]:
    # Those of TLS 1.3 are all safe and, as in Go, not chosen here.
    return tuple(_openssl_name(suite) for suite in suites if suite not in _SUITES_OF_TLS13)


def _names(names: Iterable[str]) -> frozenset[str]:
    """Names of certificates, addresses in one spelling: OpenSSL writes no ``::``."""
    return frozenset(map(_name, names))


def _name(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


class TLSServerConfig(Section):
    """``tls_server_config``."""

    cert_file: FilePath
    key_file: FilePath
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = (
        "NoClientCert"
    )
    client_ca_file: FilePath | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"
    cipher_suites: Annotated[tuple[str, ...], AfterValidator(_suites)] = ()
    prefer_server_cipher_suites: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        verifies = self.client_auth_type != "NoClientCert"
        if verifies and self.client_ca_file is None:
            raise ValueError("client_auth_type verifies certificates; give their authority as client_ca_file")
        if self.client_ca_file is not None and not verifies:
            raise ValueError("client_ca_file is given; set client_auth_type to RequireAndVerifyClientCert")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs a client_auth_type of RequireAndVerifyClientCert")
        if _VERSIONS[self.min_version] > _VERSIONS[self.max_version]:
            raise ValueError("min_version is above max_version, so nobody could connect; swap them")
        return self

    def context(self) -> ssl.SSLContext:
        """A context from the files as they are now. Raises OSError, also ssl.SSLError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = (
            _VERSIONS[self.min_version],
            _VERSIONS[self.max_version],
        )
        # The password callback, because OpenSSL would ask for one on the terminal, and the run would wait.
        context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        context.verify_mode = _CLIENT_CERTIFICATES[self.client_auth_type]
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
        if self.cipher_suites:
            context.set_ciphers(":".join(self.cipher_suites))
        if self.prefer_server_cipher_suites:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        return context


def _header_values(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if name not in _VALUES:
            raise ValueError(f"header {name!r} cannot be set; these can: {', '.join(_VALUES)}")
        allowed = _VALUES[name]
        if allowed is not None and value.lower() not in allowed:
            raise ValueError(f"header {name!r} takes {' or '.join(sorted(allowed))}")
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError(f"header {name!r} needs a value of printable ASCII characters")
    return headers


class HTTPServerConfig(Section):
    """``http_server_config``."""

    http2: bool = False
    """Accepted and without effect: this server speaks HTTP/1.1."""

    headers: Annotated[Mapping[str, str], AfterValidator(_header_values)] = Field(default_factory=dict)


class WebConfig(Section):
    """A web configuration file."""

    tls_server_config: TLSServerConfig | None = None
    http_server_config: HTTPServerConfig = HTTPServerConfig()
    basic_auth_users: Mapping[
        Annotated[str, AfterValidator(_user)], Annotated[str, AfterValidator(_bcrypt_hash)]
    ] = Field(default_factory=dict)

    def files(self) -> list[Path]:
        """The files that it names."""
        tls = self.tls_server_config
        named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        return [path for path in named if path is not None]


class LoadedWebConfig:
    """A web configuration with what was made from its files. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        self.config = load(WebConfig, path)
        tls = self.config.tls_server_config
        try:
            self.tls = tls.context() if tls else None
        except OSError as error:
            raise ConfigError(f"{str(path)!r}: tls_server_config: {_tls_reason(error, self.config)}") from error

    def allows_peer(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this certificate, as ``SSLSocket.getpeercert`` gives it, may ask."""
        tls = self.config.tls_server_config
        if tls is None or not tls.client_allowed_sans:
            return True
        names = _names(value for _kind, value in (certificate or {}).get("subjectAltName", ()))
        return not names.isdisjoint(_names(tls.client_allowed_sans))


def _tls_reason(error: OSError, config: WebConfig) -> str:
    names = ", ".join(str(path) for path in config.files())
    if isinstance(error, ssl.SSLError):
        reason = (
            "the key is that of another certificate"
            if error.reason == "KEY_VALUES_MISMATCH"
            else (f"no certificate and key as PEM, without a password ({error.reason or 'unreadable'})")
        )
        return f"{reason} in {names}"
    return f"{error.strerror} ({names}); give files that can be read"
