"""Finds the real servers: on the PATH, or unpacked from Debian's packages without root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class MissingServerError(RuntimeError):
    """A server is not installed and cannot be downloaded. The message says what to install."""


def find_alertmanager(folder: Path) -> Path:
    """Find Alertmanager under its own name, or under Debian's."""
    found = shutil.which("alertmanager")
    return Path(found) if found else find_server("prometheus-alertmanager", "prometheus-alertmanager", folder)


def find_server(binary: str, package: str, folder: Path) -> Path:
    """Find ``binary`` on the PATH, or unpack Debian's ``package`` into ``folder``."""
    found = shutil.which(binary)
    if found:
        return Path(found)
    unpacked = folder.absolute() / "usr" / "bin" / binary
    reason = f"install {binary} (package {package}) so that it is on PATH"
    if not unpacked.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        try:
            _unpack(package, folder.absolute())
        except subprocess.CalledProcessError as error:
            reason += f"; apt-get said: {error.stderr.decode(errors='replace').strip()[-200:]}"
    if not unpacked.exists():
        raise MissingServerError(reason)
    return unpacked


def _unpack(package: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    options: list[str] = []
    # apt-get download needs package lists, and without root it cannot write the system's.
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::State::lists={lists}"]
        _run("apt-get", *options, "update", folder=folder)
    _run("apt-get", *options, "download", package, folder=folder)
    for archive in folder.glob(f"{package}_*.deb"):
        _run("dpkg", "-x", str(archive), str(folder), folder=folder)
        archive.unlink()
    _relocate(folder / "usr" / "bin" / package)


def _relocate(binary: Path) -> None:
    """Make Debian's Alertmanager look for its templates below the working directory.

    It was compiled with their absolute path, where only root can write. The relative path has the same length,
    so it can replace the bytes in the binary.
    """
    if binary.name == "prometheus-alertmanager":
        compiled = binary.read_bytes()
        binary.write_bytes(
            compiled.replace(b"/usr/share/prometheus/alertmanager", b"usr//share/prometheus/alertmanager")
        )


def home(binary: Path) -> Path | None:
    """The working directory that a server from :func:`find_server` needs to find its data, or None for any."""
    unpacked = binary.parent.parent.parent
    return unpacked if (unpacked / "usr" / "share").is_dir() and unpacked != Path("/") else None


def _run(*command: str, folder: Path) -> None:
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
