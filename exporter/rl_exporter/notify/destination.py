"""Where messages go: the address of a webhook, which is a secret, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from rl_exporter.guarded import read_file
from rl_exporter.notify.formats import Format

_HOSTS: Mapping[str, Format] = MappingProxyType(
    {
        "hooks.slack.com": Format.SLACK,
        "hooks.slack-gov.com": Format.SLACK,
        "discord.com": Format.DISCORD,
        "discordapp.com": Format.DISCORD,
        "ptb.discord.com": Format.DISCORD,
        "canary.discord.com": Format.DISCORD,
    }
)
_MAX_BYTES = 4096
_REMEDY = (
    "give the URL of a webhook, such as https://hooks.slack.com/services/..., with json:, slack: or discord: "
    "before it where its host does not tell, or @FILE with the URL in it"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """A webhook. ``host`` is all of it that may be shown: whoever knows the rest can post to it."""

    host: str
    format: Format
    url: str = field(repr=False)
    basic_auth: str | None = field(default=None, repr=False)


def parse_destination(text: str) -> Destination:
    """Parse ``[FORMAT:]URL``, or ``@FILE`` that holds one. Raises ValueError, without the URL in it."""
    if text.startswith("@"):
        return _parse(_read(Path(text[1:])), f"{text!r}: ")
    return _parse(text, "")


def parse_destinations(notify: str | Sequence[str] | None) -> tuple[Destination, ...]:
    """One destination, several or none. Raises ValueError."""
    given = [notify] if isinstance(notify, str) else list(notify or ())
    return tuple(map(parse_destination, given))


def _read(path: Path) -> str:
    try:
        return read_file(path, _MAX_BYTES).decode("utf-8", "replace").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"{'@' + str(path)!r}: {reason}; {_REMEDY}") from error


def _parse(text: str, where: str) -> Destination:
    prefix, colon, rest = text.partition(":")
    named = prefix in {form.value for form in Format} and colon
    url = rest if named else text
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{where}no URL of a webhook; {_REMEDY}")
    login = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    form = Format(prefix) if named else _HOSTS.get(host, Format.JSON)
    return Destination(host, form, url, login)
