"""Finds the real servers: on the PATH, or unpacked from Debian's packages without root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SLURM = ("slurmctld", "slurmd", "slurm-client")
_WITH_DEPENDENCIES = ("install", "--quiet=2", "--print-uris", "--no-install-recommends")


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
            _unpack([package], folder.absolute())
            _relocate(unpacked)
        except subprocess.CalledProcessError as error:
            reason += f"; apt-get said: {_last_words(error)}"
    if not unpacked.exists():
        raise MissingServerError(reason)
    return unpacked


def find_slurm(folder: Path) -> Path:
    """The folder below which Slurm lies, unpacked from Debian's packages with all that this machine lacks."""
    root = folder.absolute() / "slurm"
    whole = root / "whole"
    if not whole.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise MissingServerError("Slurm comes from packages of Debian or Ubuntu; run this test there")
        try:
            options = _package_lists(root)
            listed = _run("apt-get", *options, *_WITH_DEPENDENCIES, *SLURM, folder=root)
            # Each line: an address, the name of the file, and more.
            files = [line.split()[1] for line in listed.splitlines() if line.startswith("'")]
            if not files:
                return Path("/")  # all of it is installed
            _unpack([name.partition("_")[0] for name in files], root)
        except subprocess.CalledProcessError as error:
            raise MissingServerError(f"Slurm cannot be downloaded: {_last_words(error)}") from error
        whole.touch()
    return root


def _unpack(packages: Sequence[str], folder: Path) -> None:
    _run("apt-get", *_package_lists(folder), "download", *packages, folder=folder)
    for package in packages:
        for archive in folder.glob(f"{package}_*.deb"):
            _run("dpkg", "-x", str(archive), str(folder), folder=folder)
            archive.unlink()


def _package_lists(folder: Path) -> list[str]:
    """Options for apt-get, which needs package lists, and without root cannot write the system's."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        return []
    lists = folder / "lists"
    options = ["-o", f"Dir::State::lists={lists}"]
    if not any(lists.glob("*_Packages*")):
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        _run("apt-get", *options, "update", folder=folder)
    return options


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


def _run(*command: str, folder: Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout.decode(errors="replace")


def _last_words(error: subprocess.CalledProcessError) -> str:
    said: str = error.stderr.decode(errors="replace").strip()[-200:]
    return said
