"""Who may read: names under which the server answers, TLS and logins, before any request reaches it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from rl_exporter.log import exporter_log
from rl_exporter.server.listen import ListenAddress
from rl_exporter.server.wsgi import Response, text_response

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from rl_exporter.server.live_config import LiveConfig
    from rl_exporter.server.logins import Logins
    from rl_exporter.server.web_config import LoadedWebConfig

_LOG = exporter_log()
_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, never bound
_NEEDED = ("pydantic", "bcrypt")


class Gate:
    """Lets requests through, or says why not. ``allowed_hosts``: further names of this machine.

    With ``web_config``, a file in the format of exporter-toolkit, clients need what that asks for. Raises
    ValueError, with file, key and remedy, when it cannot be used.
    """

    def __init__(self, web_config: Path | str | None = None, allowed_hosts: Iterable[str] = ()) -> None:
        self._names = {"localhost", gethostname().lower(), *map(str.lower, allowed_hosts)}
        self._any_address = False
        self._web: LiveConfig[LoadedWebConfig] | None = None
        self._logins: Logins | None = None
        if web_config is not None:
            self._configure(Path(web_config))

    def _configure(self, path: Path) -> None:
        missing = [package for package in _NEEDED if find_spec(package) is None]
        if missing:
            raise ValueError(f"a web configuration needs {missing[0]}; pip install 'rl-policy-exporter[web]'")
        # Slow to import, and few need it.
        from rl_exporter.server.live_config import LiveConfig  # noqa: PLC0415
        from rl_exporter.server.logins import Logins  # noqa: PLC0415
        from rl_exporter.server.web_config import LoadedWebConfig  # noqa: PLC0415

        self._web = LiveConfig(path.absolute(), LoadedWebConfig, lambda loaded: loaded.config.files())
        self._logins = Logins()

    @property
    def configured(self) -> bool:
        """Whether a web configuration says who may read."""
        return self._web is not None

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self._web is not None and self._web.get().tls else "http"

    def listening(self, address: ListenAddress) -> None:
        """Answer to the address that the server listens on; to any, where it listens on all.

        An open door is said once: where others reach it, and nothing says who may read.
        """
        self.allow_host(address.host)
        self._any_address = address.host in _WILDCARDS
        loopback = ipaddress.ip_address(address.host).is_loopback
        if loopback:
            self._names |= {"127.0.0.1", "::1"}
        elif not self.configured:
            _LOG.warning(
                "%s is open to whoever reaches it: limit that, or say who may read "
                "(web_config=, --web.config.file)",
                address,
            )

    def allow_host(self, name: str) -> None:
        """Answer to this name, too."""
        self._names.add(name.lower())

    def tls(self) -> ssl.SSLContext | None:
        """The context for a connection that begins now."""
        return self._web.get().tls if self._web else None

    def allows_peer(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this certificate may send requests."""
        return self._web is None or self._web.get().allows_peer(certificate)

    def close(self) -> None:
        """End the thread that checks logins."""
        if self._logins is not None:
            self._logins.close()

    def headers(self) -> Mapping[str, str]:
        """Headers of every response."""
        return self._web.get().config.http_server_config.headers if self._web else {}

    def refusal(self, environ: WSGIEnvironment) -> Response | Future[bool] | None:
        """The response to a request that may not pass, None for one that may; a Future while that is checked.

        The Future says whether the login is good; ``unauthorized`` is the response if not.
        """
        # The target may be a whole URL, whose name then counts, too.
        for host in (environ.get("HTTP_HOST"), environ.get("rl_exporter.authority") or None):
            if host is not None and not self._is_own(host):
                return text_response(
                    "403 Forbidden",
                    f"this server does not answer to the name {host[:100]!r}; "
                    "allowed_hosts=[NAME] or --allow-host NAME allows one",
                )
        users = self._web.get().config.basic_auth_users if self._web else {}
        if not users or self._logins is None:
            return None
        return self._logged_in(self._logins, users, environ)

    def _logged_in(
        self, logins: Logins, users: Mapping[str, str], environ: WSGIEnvironment
    ) -> Response | Future[bool] | None:
        from rl_exporter.server.logins import TooManyLoginsError  # noqa: PLC0415 - needs bcrypt

        try:
            good = logins.check(users, environ.get("HTTP_AUTHORIZATION", ""), environ["REMOTE_ADDR"])
        except TooManyLoginsError:
            status, headers, body = text_response(
                "429 Too Many Requests", "too many logins; try again in a second"
            )
            return status, [*headers, ("Retry-After", "1")], body
        if isinstance(good, Future):
            return good
        return None if good else unauthorized()

    def _is_own(self, host: str) -> bool:
        name = without_port(host.strip().lower())
        if name in self._names:
            return True
        # A browser that was led here by somebody's DNS sends a name. An address it sends only if told so.
        return self._any_address and _is_address(name)


def without_port(host: str) -> str:
    """The name or address in HOST, HOST:PORT, [IPV6] or [IPV6]:PORT."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and rest[:1] in ("", ":") else host
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def unauthorized() -> Response:
    """The response to a request without a good login."""
    status, headers, body = text_response("401 Unauthorized", "give a user and a password")
    return status, [*headers, ("WWW-Authenticate", 'Basic realm="rl_exporter", charset="UTF-8"')], body
