"""``rl-exporter targets``: which runs are registered, which of them are alive, and away with the others."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rl_exporter.discovery.entry import STALE_SECONDS, Entry, partial_files, read_entries
from rl_exporter.discovery.file_sd import remove_file
from rl_exporter.discovery.liveness import Liveness, is_dead, liveness_probe
from rl_exporter.view.cells import printable

_PROBES_AT_ONCE = 32
_COLUMNS = ("run", "address", "labels", "heartbeat", "condition")
_REASONS = {
    Liveness.STARTING: "it never said where it listens",
    Liveness.SILENT: "it does not answer",
    Liveness.GONE: "nobody listens there, or another run",
    Liveness.BROKEN: "the file is no entry",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry and what was found at its address."""

    entry: Entry
    liveness: Liveness
    dead: bool


def see(directory: Path, timeout: float, older_than: float = STALE_SECONDS) -> list[Seen]:
    """All entries of a directory, by name. Raises OSError when it cannot be listed."""
    entries, probe = list(read_entries(directory)), liveness_probe(timeout)
    with ThreadPoolExecutor(_PROBES_AT_ONCE) as pool:
        found = list(pool.map(probe, entries))
    return [
        Seen(entry, liveness, is_dead(entry, liveness, older_than))
        for entry, liveness in zip(entries, found, strict=True)
    ]


def list_targets(options: argparse.Namespace) -> int:
    """Print what is registered; returns the exit status."""
    seen = see(options.directory, options.timeout)
    if options.json:
        sys.stdout.writelines(json.dumps(_document(one)) + "\n" for one in seen)
        return 0
    dead = sum(one.dead for one in seen)
    if seen:
        _print_table([_COLUMNS, *(_cells(one) for one in seen)])
    remedy = f", {dead} dead: rl-exporter targets prune {options.directory} removes them" if dead else ""
    sys.stdout.write(f"{len(seen)} registered{remedy}\n")
    return 0


def _document(seen: Seen) -> dict[str, object]:
    entry = seen.entry
    return {
        "run_id": entry.run_id,
        "address": entry.address,
        "labels": dict(entry.labels),
        "heartbeat_age_seconds": round(entry.age, 3),
        "condition": seen.liveness,
        "dead": seen.dead,
        "file": str(entry.path),
    }


def _cells(seen: Seen) -> tuple[str, ...]:
    entry = seen.entry
    labels = ",".join(f"{name}={value}" for name, value in entry.labels.items())
    condition = f"{seen.liveness}, dead" if seen.dead else str(seen.liveness)
    cells = (entry.run_id, entry.address or "-", labels or "-", f"{max(entry.age, 0.0):.0f} s ago", condition)
    return tuple(printable(cell) for cell in cells)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def prune_targets(options: argparse.Namespace) -> int:
    """Remove the entries of dead runs; returns the exit status: 2 when some could not be removed."""
    failed = 0
    dead = [one for one in see(options.directory, options.timeout, options.older_than) if one.dead]
    for one in dead:
        failed += not _removed(one, dry_run=options.dry_run)
    for path in partial_files(options.directory, max(options.older_than, STALE_SECONDS)):
        if not options.dry_run:
            failed += not _unlinked(path)
    return 2 if failed else 0


def _removed(seen: Seen, *, dry_run: bool) -> bool:
    """Remove an entry, unless it lived since it was seen; False when that was not possible."""
    entry = seen.entry
    try:
        if not (dry_run or remove_file(entry.path, entry.version)):
            return True
    except FileNotFoundError:
        return True
    except OSError as error:
        return _complained(entry.path, error)
    did, where = "would remove" if dry_run else "removed", f" at {entry.address}" if entry.address else ""
    reason = f"{_REASONS[seen.liveness]}, last heartbeat {entry.age:.0f} s ago"
    sys.stdout.write(f"{did} {printable(entry.run_id + where)}: {reason}\n")
    return True


def _unlinked(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return _complained(path, error)
    return True


def _complained(path: Path, error: OSError) -> bool:
    where = printable(str(path))
    sys.stderr.write(f"rl-exporter: error: {where}: {error.strerror}; run this as the owner of the file\n")
    return False
