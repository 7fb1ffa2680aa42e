"""``rl-exporter targets``: lists registered runs with their liveness, and prunes entries of dead ones."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rl_exporter.discovery.entry import STALE_SECONDS, Entry, partial_files, read_entries
from rl_exporter.discovery.liveness import Liveness, is_dead, liveness_probe
from rl_exporter.discovery.ownership import remove_file
from rl_exporter.view.cells import printable
from rl_exporter.view.layout import shortened

_CONCURRENT_PROBES = 32
_PROBING_SECONDS = 120.0
"""For all entries together: a directory may hold thousands that never answer."""

_CELL_WIDTH = 80
"""One long label must not push every row off the screen; --json has it whole."""

_COLUMNS = ("run", "address", "labels", "heartbeat", "condition")
_REASONS = {
    Liveness.STARTING: "it never said where it listens",
    Liveness.SILENT: "it does not answer",
    Liveness.GONE: "nobody listens there, or another run",
    Liveness.BROKEN: "the file is no entry",
}


@dataclass(frozen=True, slots=True)
class ProbedEntry:
    """An entry with the result of its probe."""

    entry: Entry
    liveness: Liveness
    dead: bool


def probe_entries(
    directory: Path, timeout: float, older_than: float = STALE_SECONDS, http_config: Path | None = None
) -> list[ProbedEntry]:
    """Probe all entries of a directory, in the order of their names. Raises OSError if it cannot be listed."""
    entries, probe = list(read_entries(directory)), liveness_probe(timeout, http_config)
    deadline = time.monotonic() + _PROBING_SECONDS

    def probe_in_time(entry: Entry) -> Liveness:
        return probe(entry) if time.monotonic() < deadline else Liveness.UNASKED

    with ThreadPoolExecutor(_CONCURRENT_PROBES) as pool:  # silent machines take the whole timeout each
        results = list(pool.map(probe_in_time, entries))
    return [
        ProbedEntry(entry, liveness, is_dead(entry, liveness, older_than))
        for entry, liveness in zip(entries, results, strict=True)
    ]


def list_targets(options: argparse.Namespace) -> int:
    """Print the registered runs. Returns the exit status."""
    probed = probe_entries(options.directory, options.timeout, http_config=options.http_config)
    if options.json:
        sys.stdout.writelines(json.dumps(_json_object(run)) + "\n" for run in probed)
        return 0
    dead = sum(run.dead for run in probed)
    if probed:
        _print_table([_COLUMNS, *(_table_row(run) for run in probed)])
    remedy = f", {dead} dead: rl-exporter targets prune {options.directory} removes them" if dead else ""
    sys.stdout.write(f"{len(probed)} registered{remedy}\n")
    return 0


def _json_object(probed: ProbedEntry) -> dict[str, object]:
    entry = probed.entry
    return {
        "run_id": entry.run_id,
        "address": entry.address,
        "labels": dict(entry.labels),
        "heartbeat_age_seconds": round(entry.age, 3),
        "condition": probed.liveness,
        "dead": probed.dead,
        "file": str(entry.path),
    }


def _table_row(probed: ProbedEntry) -> tuple[str, ...]:
    entry = probed.entry
    labels = ",".join(f"{name}={value}" for name, value in entry.labels.items())
    liveness = f"{probed.liveness}, dead" if probed.dead else str(probed.liveness)
    cells = (entry.run_id, entry.address or "-", labels or "-", f"{max(entry.age, 0.0):.0f} s ago", liveness)
    return tuple(shortened(printable(cell), _CELL_WIDTH) for cell in cells)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def prune_targets(options: argparse.Namespace) -> int:
    """Remove the entries of dead runs. Returns the exit status: 2 if some could not be removed."""
    failed = 0
    probed = probe_entries(options.directory, options.timeout, options.older_than, options.http_config)
    for run in probed:
        if run.dead:
            failed += not _remove_entry(run, dry_run=options.dry_run)
    # --older-than 0 must not remove a file that a live run is writing right now.
    for path in partial_files(options.directory, max(options.older_than, STALE_SECONDS)):
        if not options.dry_run:
            failed += not _remove_partial(path)
    return 2 if failed else 0


def _remove_entry(probed: ProbedEntry, *, dry_run: bool) -> bool:
    """Remove an entry, unless it had a heartbeat since the probe. Returns False if that failed."""
    entry = probed.entry
    try:
        if not (dry_run or remove_file(entry.path, entry.version)):
            return True
    except FileNotFoundError:
        return True
    except OSError as error:
        return _report_failure(entry.path, error)
    did, where = "would remove" if dry_run else "removed", f" at {entry.address}" if entry.address else ""
    reason = f"{_REASONS[probed.liveness]}, last heartbeat {entry.age:.0f} s ago"
    sys.stdout.write(f"{did} {printable(entry.run_id + where)}: {reason}\n")
    return True


def _remove_partial(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return _report_failure(path, error)
    return True


def _report_failure(path: Path, error: OSError) -> bool:
    where = printable(str(path))
    sys.stderr.write(f"rl-exporter: error: {where}: {error.strerror}; run this as the owner of the file\n")
    return False
