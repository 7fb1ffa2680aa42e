"""Basic authentication with bcrypt hashes, at a cost that no client can drive up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import bcrypt

Key = TypeVar("Key")
Value = TypeVar("Value")

_REMEMBERED = 256
"""Good logins, and addresses with a bad one lately."""

_WAITING = 16
"""Logins that wait to be checked. More are told to come again."""

_ADDRESS_SECONDS = 1.0
"""Between two bad logins from one address."""

_SHARE = 10
"""Bad logins take at most one part in so many of a core."""


class TooManyLoginsError(Exception):
    """Checking this login has to wait for others."""


class _Login(NamedTuple):
    password: bytes
    hashed: str
    known: bool
    key: bytes
    address: str
    result: Future[bool]


class Logins:
    """Checks logins against ``users``, names with bcrypt hashes, on a thread of its own.

    A good login is remembered as a keyed digest, and costs bcrypt once. An address whose login is being
    checked, or was bad, is held back for a second; it gets no second check meanwhile.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        checkpw: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock, self._checkpw, self._sleep = clock, checkpw, sleep
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        # Dicts as ordered sets: the first key is the oldest.
        self._good: dict[bytes, None] = {}
        self._held_until: dict[str, float] = {}
        self._pending: dict[bytes, Future[bool]] = {}
        self._queue: queue.SimpleQueue[_Login | None] = queue.SimpleQueue()
        # From the start: an interpreter that shuts down cannot start threads, and a run may still linger then.
        threading.Thread(target=self._work, name="logins", daemon=True).start()

    def check(self, users: Mapping[str, str], authorization: str, address: str) -> bool | Future[bool]:
        """Whether an Authorization header is a good login: at once where that is known or none is given.

        Raises TooManyLoginsError.
        """
        given = _credentials(authorization)
        if given is None:
            return False
        name, password = given
        known = name in users
        # An unknown name costs what a known one does, so that the time does not tell which names there are.
        hashed = users[name] if known else next(iter(users.values()))
        key = self._digest(name.encode(), password, hashed.encode())
        with self._lock:
            return (
                key in self._good
                or self._pending.get(key)
                or self._enqueue(_Login(password, hashed, known, key, address, Future()))
            )

    def close(self) -> None:
        """Check no more."""
        self._queue.put(None)

    def _enqueue(self, login: _Login) -> Future[bool]:
        if self._clock() < self._held_until.get(login.address, 0.0) or len(self._pending) >= _WAITING:
            raise TooManyLoginsError
        _remember(self._held_until, login.address, self._clock() + _ADDRESS_SECONDS)
        self._pending[login.key] = login.result
        self._queue.put(login)
        return login.result

    def _digest(self, *parts: bytes) -> bytes:
        # Lengths, so that no two logins have the same parts in a row.
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._secret, message, hashlib.sha256)

    def _work(self) -> None:
        while (login := self._queue.get()) is not None:
            started = self._clock()
            good = self._is_good(login)
            with self._lock:
                del self._pending[login.key]
                if good:
                    _remember(self._good, login.key, None)
                    self._held_until.pop(login.address, None)
            login.result.set_result(good)
            if not good:
                self._sleep((_SHARE - 1) * (self._clock() - started))

    def _is_good(self, login: _Login) -> bool:
        try:
            return self._checkpw(login.password, login.hashed.encode()) and login.known
        except Exception:  # noqa: BLE001 - such as more than the 72 bytes that bcrypt takes; the thread must live
            return False


def _remember(table: dict[Key, Value], key: Key, value: Value) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > _REMEMBERED:
        del table[next(iter(table))]


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
