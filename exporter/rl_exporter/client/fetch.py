"""Fetches a snapshot from a /metrics address.

Anything may answer there, so a fetch is bounded in time and in size, and every failure becomes one line.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from rl_exporter.client.addresses import Target
from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from rl_exporter.deadline import TimeLeft, pool_manager
from rl_exporter.snapshot import SanctumSnapshot

MAX_BYTES = 8 * 2**20
"""About two hundred times the body of a run with eight heads."""

TIMEOUT_SECONDS = 5.0
_CHUNK = 64 * 1024
_SCRAPE_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
_REDIRECTS = 3
_MARKER_METRIC = b"rl_policy_head_entropy_max_nats"
"""Every run exposes it from its first scrape on. Looked for first, because parsing a foreign body is slow."""

_CLOCK_TOLERANCE = 5.0
"""Seconds. The Date header has whole seconds, and the answer travels: a smaller offset proves nothing."""


class UnreachableError(Exception):
    """The fetch failed. The message is one line with the reason and, where there is one, the remedy."""


class RefusedError(UnreachableError):
    """The connection was refused: nothing listens at the address."""


@dataclass(frozen=True, slots=True)
class FetchedSnapshot:
    """A snapshot, and how many seconds the run's clock is ahead of ours.

    The panel subtracts timestamps of the run from its own time; without the offset an age would be wrong.
    """

    snapshot: SanctumSnapshot
    clock_offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows to servers, and whom it trusts.

    ``basic_auth`` is USER:PASSWORD for servers whose address has none of its own. ``server_name``: the name in
    their certificates, where it is not the one in the address.
    """

    tls: ssl.SSLContext
    basic_auth: str | None = field(default=None, repr=False)
    server_name: str | None = None


def read_credentials(path: Path | None) -> Credentials:
    """The credentials in a file of Prometheus' client format (``http_config``); without one, none.

    Raises ValueError with file, key and remedy.
    """
    if path is None:
        return Credentials(tls_context())
    if find_spec("pydantic") is None:
        raise ValueError("--http.config.file needs pydantic; pip install 'rl-policy-exporter[web]'")
    from rl_exporter.client.http_config import HTTPConfig  # noqa: PLC0415 - slow to import, and few need it

    return HTTPConfig.read(path)


def tls_context(ca_file: Path | None = None, *, insecure: bool = False) -> ssl.SSLContext:
    """Make a TLS context that trusts the system's authorities, only those of ``ca_file``, or any certificate.

    Raises ValueError, with the remedy, when the file holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError) else "holds no PEM certificate"
        raise ValueError(f"{str(ca_file)!r}: {reason}; give the authority's certificates as PEM") from error
    if insecure:
        # In this order: Python refuses CERT_NONE while host names are checked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Fetcher:
    """Fetches snapshots over connections that stay open. Thread-safe.

    ``awaited``: at its end a run waits until this fetcher has its final state.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT_SECONDS,
        *,
        basic_auth: str | None = None,
        server_name: str | None = None,
        awaited: bool = False,
    ) -> None:
        self.timeout = timeout
        # As Prometheus does: a run waits at its end for those who send it.
        self._scrape = {_SCRAPE_HEADER: f"{timeout:g}"} if awaited else {}
        self._basic_auth = basic_auth
        # One body at a time: parsed, a hostile one takes ten times its size, and Python parses no two at once.
        self._parsing = threading.Lock()
        named: dict[str, Any] = {"server_hostname": server_name} if server_name else {}
        self._pool = pool_manager(
            num_pools=64,  # hosts with open connections: a fleet has more than urllib3's ten
            maxsize=4,
            ssl_context=context or tls_context(),
            **named,
            # Only redirects: the caller polls anyway, and a retry inside would exceed the time limit.
            retries=urllib3.Retry(total=_REDIRECTS, connect=0, read=0, redirect=_REDIRECTS, status=0, other=0),
        )

    @classmethod
    def showing(
        cls, credentials: Credentials, timeout: float = TIMEOUT_SECONDS, *, awaited: bool = False
    ) -> Self:
        """A fetcher that shows these credentials."""
        shown = {"basic_auth": credentials.basic_auth, "server_name": credentials.server_name}
        return cls(credentials.tls, timeout, awaited=awaited, **shown)

    def fetch(self, target: Target) -> FetchedSnapshot:
        """Fetch the snapshot of the run at ``target``. Raises UnreachableError."""
        # No Accept-Encoding: the trainer would spend CPU on compressing what a local network sends at once.
        headers = {"Accept": "text/plain; version=0.0.4", "User-Agent": "rl-exporter-watch"} | self._scrape
        if self._basic_auth is not None:
            headers |= urllib3.make_headers(basic_auth=self._basic_auth)
        try:
            # Not preloaded: urllib3 would read the whole body first, however large. Nor decoded: a body that is
            # compressed although nobody asked for it may be a thousand times larger than it was sent.
            response = self._pool.request(
                "GET",
                target.url,
                headers=headers,
                timeout=TimeLeft(self.timeout),
                preload_content=False,
                decode_content=False,
            )
            try:
                body, offset = self._body(response), _clock_offset(response.headers.get("Date"))
            finally:
                _release(response)
        except (HTTPError, OSError) as error:
            kind = RefusedError if _is_refused(error) else UnreachableError
            raise kind(_reason(error, self.timeout)) from error
        with self._parsing:
            return FetchedSnapshot(_snapshot(body), offset)

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        if response.status == 401:
            raise UnreachableError(
                "it answers with HTTP status 401: give user and password with --http.config.file"
            )
        if response.status != 200:
            raise UnreachableError(
                f"it answers with HTTP status {response.status} (is this the address of /metrics?)"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UnreachableError("its answer is compressed, although that was not asked for")
        body = bytearray()
        try:
            while chunk := response.read1(_CHUNK):  # read() would block for a whole chunk
                body += chunk
                if len(body) > MAX_BYTES:
                    raise UnreachableError(
                        f"it answers with more than {MAX_BYTES // 2**20} MiB: not the /metrics of a run"
                    )
        except ReadTimeoutError as error:
            raise UnreachableError(f"no whole answer within {self.timeout:g} s") from error
        return bytes(body)


def _release(response: urllib3.BaseHTTPResponse) -> None:
    """Keep the connection after a whole answer, and close it after any other instead of reading the rest."""
    if response.closed:
        response.release_conn()
    else:
        response.close()


def _snapshot(body: bytes) -> SanctumSnapshot:
    if _MARKER_METRIC not in body:
        raise UnreachableError("what answers there is no rl_exporter: it shows no run")
    try:
        # A foreign body may be in any encoding; the parser then names what it lacks.
        return parse_snapshot(body.decode("utf-8", errors="replace"))
    except NotAnExporterError as error:
        raise UnreachableError(str(error)) from error


def _clock_offset(date: str | None) -> float:
    """Seconds that the server's clock is ahead of ours, from its Date header; 0 within the tolerance."""
    if date is None:
        return 0.0
    try:
        offset = parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return offset if abs(offset) > _CLOCK_TOLERANCE else 0.0


def _is_refused(error: BaseException | None) -> bool:
    """Whether the connection was refused. urllib3 wraps the error of the socket twice."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.reason if isinstance(error, MaxRetryError) else error.__cause__
    return error is not None


def _reason(error: BaseException, timeout: float) -> str:
    """Describe an error of urllib3 in one line for people."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    reason = _last_part(error)
    if isinstance(error, NameResolutionError):
        reason = f"the host name cannot be resolved: {reason}"
    elif isinstance(error, NewConnectionError):
        reason = f"{reason} (is the run up?)"
    elif isinstance(error, ConnectTimeoutError | ReadTimeoutError | HTTPTimeoutError):
        reason = f"no answer within {timeout:g} s"
    elif isinstance(error, SSLError):
        reason = _tls_reason(str(error))
    elif isinstance(error, IncompleteRead) or isinstance(error.__cause__, IncompleteRead):
        reason = "the answer is cut off in the middle"
    elif isinstance(error, ProtocolError):
        reason = "the connection broke before the answer was whole (does it speak HTTP there?)"
    return reason


def _tls_reason(text: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        detail = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return f"its certificate is not trusted ({detail}); give its authority with --ca-file, or --insecure"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "it does not speak TLS there; try http:// instead of https://"
    return f"TLS fails: {' '.join(text.split())[:160]}"


def _last_part(error: BaseException) -> str:
    """The last part of a message of urllib3; the parts before it are reprs of its own objects."""
    text = " ".join(str(error).split())
    return (text.rpartition("] ")[2] or text.rpartition(": ")[2])[:160].rstrip(")") or type(error).__name__
