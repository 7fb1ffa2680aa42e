"""A checkpoint as a file: its bytes, the checksum over them, and how they are read.

Line 1 names the format, line 2 holds the SHA-256 of the rest; the rest is what torch.save makes of the state.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import torch

from rl_exporter.whole_files import whole_file

_FIRST_LINE = b"rl-train checkpoint 2\n"
_DIGEST = hashlib.sha256
_DIGITS = 2 * _DIGEST().digest_size
_FORMAT_1 = b"PK"
"""How a file of the first format begins: an archive of torch.save alone, with a weak checksum of each part."""

_IS_FOLDER = 0x10


class DamagedError(ValueError):
    """Bytes that are no checkpoint, or no longer one; the message says what they are."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a kill at any moment leaves either the former one or this one.

    Raises OSError for a disk that is full. torch.save itself would raise a RuntimeError there, so it writes to
    memory.
    """
    content = io.BytesIO()
    torch.save(state, content)
    # A view that an error kept alive would let the garbage collector complain of the buffer.
    with content.getbuffer() as data, whole_file(path) as file:
        file.write(_FIRST_LINE + _DIGEST(data).hexdigest().encode() + b"\n")
        file.write(data)


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it. Raises OSError and DamagedError."""
    content = _read(path)
    try:
        content = _checked_archive(content) if content.startswith(_FORMAT_1) else _checked(content)
        # weights_only: a checkpoint from elsewhere could otherwise run code while it loads.
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except DamagedError:
        raise
    except Exception as error:  # torch, pickle and zipfile raise whatever they come upon
        raise DamagedError("is cut off or no checkpoint of rl-train") from error
    if not isinstance(state, dict):
        raise DamagedError("is no checkpoint of rl-train")
    return state


def _read(path: Path) -> bytes:
    """The bytes of a regular file. A pipe would wait for a writer, and a device may never end."""
    # O_NONBLOCK: to open a pipe would wait, too.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DamagedError("is no regular file, so it is cut off or no checkpoint of rl-train")
        # Before the rest is read: a file from elsewhere may be larger than the memory.
        first = file.read(len(_FIRST_LINE))
        if not first.startswith(_FORMAT_1) and first != _FIRST_LINE:
            raise DamagedError("is cut off or no checkpoint of rl-train")
        return first + file.read()


def _checked(content: bytes) -> bytes:
    at = len(_FIRST_LINE) + _DIGITS
    digest, rest = content[len(_FIRST_LINE) : at + 1], memoryview(content)[at + 1 :]
    if digest != _DIGEST(rest).hexdigest().encode() + b"\n":
        raise DamagedError("is damaged, cut off or no checkpoint of rl-train: its checksum does not fit")
    return bytes(rest)


def _checked_archive(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # torch reads an entry with this attribute as one without content. Its checksum does not cover that.
        folders = (entry.filename for entry in archive.infolist() if entry.external_attr & _IS_FOLDER)
        broken = archive.testzip() or next(folders, None)
    if broken is not None:
        raise DamagedError(f"is damaged: the checksum of {broken} does not fit")
    return content
