"""The checkpoints that a folder keeps: the newest, those of the last updates, and the best by return.

All are names of the same files, so that none is written twice.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.whole_files import WRITING, check_writable, sync_folder, whole_file
from rl_training.algorithm.episodes import WINDOW

NEWEST = "checkpoint.pt"
_BEST = "checkpoint-best.pt"
_OF_UPDATE = re.compile(r"checkpoint-(\d+)\.pt")


class CheckpointError(ValueError):
    """A checkpoint that this run cannot use; the message names it, the reason and the remedy."""


class CheckpointFolder:
    """A folder of checkpoints, which keeps those of the last ``keep`` updates. ``best`` is the best so far.

    With ``keep`` 1, the default, those that are there by number stay: the run that kept them had asked for it,
    and this one may have been resumed from one of them.
    """

    def __init__(self, folder: Path, keep: int = 1, best: SanctumSnapshot | None = None) -> None:
        self._folder = folder
        self._keep = keep
        self._best = best

    def path(self, which: str | None) -> Path:
        """The file of the newest checkpoint (None or ``newest``), of the ``best``, or of an update's number."""
        if which in {None, "newest"}:
            return self._folder / NEWEST
        if which == "best":
            return self._folder / _BEST
        return self._folder / f"checkpoint-{which}.pt"

    def names(self) -> list[str]:
        """What ``path`` takes for the files that are there: the newest, the best, then updates, latest first.

        Raises OSError.
        """
        found = {path.name for path in self._folder.iterdir()}
        named = [name for name in ("newest", "best") if self.path(name).name in found]
        return named + [_OF_UPDATE.sub(r"\1", path.name) for path in reversed(self._of_updates())]

    def keep(self, snapshot: SanctumSnapshot) -> None:
        """Keep the newest checkpoint, that of ``snapshot``, as long as it is one of the last, or the best.

        Raises OSError.
        """
        if self._is_best(snapshot):
            self._name_newest(_BEST)
            self._best = snapshot
        if self._keep > 1:
            self._name_newest(f"checkpoint-{snapshot.tamiyo.updates}.pt")
            for path in self._of_updates()[: -self._keep]:
                path.unlink(missing_ok=True)
        sync_folder(self._folder)

    def _is_best(self, snapshot: SanctumSnapshot) -> bool:
        found, best = snapshot.episode_return, self._best
        if found is None:
            return False
        # The mean of a few episodes may be high by chance. Until there are enough, the newest is the best.
        if best is None or best.episode_return is None or best.episodes < WINDOW:
            return True
        return found > best.episode_return

    def _of_updates(self) -> list[Path]:
        """Those of updates in the order in which they were written: a run may go on from an early one."""
        numbered = [path for path in self._folder.iterdir() if _OF_UPDATE.fullmatch(path.name)]
        return sorted(numbered, key=lambda path: (path.lstat().st_mtime_ns, path.name))

    def _name_newest(self, name: str) -> None:
        """Give the newest checkpoint another name, too. A kill leaves what had that name, or the newest."""
        newest, target = self._folder / NEWEST, self._folder / name
        partial = self._folder / (name + WRITING)
        try:
            partial.unlink(missing_ok=True)
            partial.hardlink_to(newest)
            partial.replace(target)
        except OSError:  # a file system without hard links
            with newest.open("rb") as source, whole_file(target) as copy:
                shutil.copyfileobj(source, copy)
        finally:
            partial.unlink(missing_ok=True)


def prepare(folder: Path, *, resume: bool) -> None:
    """Make the folder. Raises CheckpointError, also if a new run would overwrite the state of another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = CheckpointFolder(folder).names()
        check_writable(folder / "probe")
    except OSError as error:
        reason = f"{error.strerror}; give a folder that can be written"
        raise CheckpointError(f"--checkpoint {str(folder)!r}: {reason}") from error
    if names and not resume:
        raise CheckpointError(
            f"{CheckpointFolder(folder).path(names[0])} holds the state of a run; go on with --resume, "
            "or give another folder"
        )
