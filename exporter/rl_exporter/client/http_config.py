"""How to reach runs behind TLS and passwords: a file in the format of Prometheus' clients (http_config).

https://prometheus.io/docs/alerting/latest/configuration/#http_config
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, model_validator

from rl_exporter.client.fetch import Credentials, tls_context
from rl_exporter.guarded import read_file
from rl_exporter.server.config_file import ConfigError, FilePath, Section, load

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_LONGEST_SECRET = 4096


def _one(section: Section, *names: str) -> None:
    """Raise ValueError unless exactly one of these keys is given."""
    given = [name for name in names if name in section.model_fields_set]
    if len(given) != 1:
        raise ValueError(f"give one of {' and '.join(names)}")


class BasicAuth(Section):
    """``basic_auth``."""

    username: str | None = None
    username_file: FilePath | None = None
    password: SecretStr | None = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _one(self, "username", "username_file")
        _one(self, "password", "password_file")
        return self

    def pair(self) -> str:
        """USER:PASSWORD. Raises ConfigError."""
        name = _secret(self.username_file) if self.username_file else self.username
        password = _secret(self.password_file) if self.password_file else self.password
        return f"{name}:{password.get_secret_value() if isinstance(password, SecretStr) else password}"


def _secret(path: Path) -> str:
    try:
        return read_file(path, _LONGEST_SECRET).decode().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{str(path)!r}: {reason}; give a file that holds the secret") from error


class TLSConfig(Section):
    """``tls_config``."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both")
        return self

    def context(self) -> ssl.SSLContext:
        """A context from the files. Raises ValueError."""
        context = tls_context(self.ca_file, insecure=self.insecure_skip_verify)
        context.minimum_version, context.maximum_version = (
            _VERSIONS[self.min_version],
            _VERSIONS[self.max_version],
        )
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except OSError as error:
                reason = (
                    "no certificate and its key as PEM" if isinstance(error, ssl.SSLError) else error.strerror
                )
                raise ConfigError(
                    f"{self.cert_file}, {self.key_file}: {reason}; give files that fit"
                ) from error
        return context


class HTTPConfig(Section):
    """A client's configuration file."""

    basic_auth: BasicAuth | None = None
    tls_config: TLSConfig = TLSConfig()

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """What the file says. Raises ValueError with file, key and remedy."""
        config = load(cls, path.absolute())
        pair = config.basic_auth.pair() if config.basic_auth else None
        return Credentials(config.tls_config.context(), pair, config.tls_config.server_name)
