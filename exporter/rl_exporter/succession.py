"""Which recorder of this process a new one replaces, and what it keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rl_exporter.aggregator import SanctumAggregator, kept_heads, with_heads
from rl_exporter.heads import Heads
from rl_exporter.identity import Identity, Registrar
from rl_exporter.recorder import HeadRecorder
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.listen import ListenAddress
from rl_exporter.snapshot import SanctumSnapshot


class Request(NamedTuple):
    """What ``serve`` was asked for, as far as it tells runs apart."""

    run_id: str | None
    address: ListenAddress
    registrar: Registrar | None


class Served(NamedTuple):
    """The parts of a recorder that is served, for the one that may replace it."""

    request: Request
    aggregator: SanctumAggregator
    server: MetricsServer
    identity: Identity


class Former(NamedTuple):
    """A recorder that is about to be replaced."""

    recorder: HeadRecorder
    served: Served

    def state_for(self, heads: Heads) -> SanctumSnapshot | None:
        """What a run with ``heads`` goes on from: the state of the heads that agree. None where none does."""
        snapshot = self.served.aggregator.snapshot()
        return with_heads(snapshot, heads) if kept_heads(snapshot, heads) else None


# The one global of the project. Running the cell of a notebook again calls ``serve`` in a process that serves
# already, and no argument leads to the former recorder: the notebook binds its name anew only when ``serve``
# returns. The references are weak, so that a recorder that was closed and dropped leaves the table.
_SERVED: WeakKeyDictionary[HeadRecorder, Served] = WeakKeyDictionary()


def remember(recorder: HeadRecorder, served: Served) -> None:
    """Let a later ``serve`` find this recorder."""
    _SERVED[recorder] = served


def former_of(request: Request, heads: Heads) -> Former | None:
    """The live recorder of the same run at the same address, or None. A forked child has none."""
    for recorder, served in _remembered():
        if recorder.closed or request.address not in {served.request.address, served.server.address}:
            continue
        if _is_same_run(request, served, heads):
            return Former(recorder, served)
    return None


def _is_same_run(request: Request, served: Served, heads: Heads) -> bool:
    if request.run_id is None:
        # Two policies without a name may stand side by side where each gets a port of its own, and only there.
        had_heads = served.aggregator.snapshot().tamiyo.heads
        nameless = served.request.run_id is None and not request.address.floats
        return nameless and dict(had_heads.sizes) == dict(heads.sizes)
    if request.run_id not in {served.request.run_id, served.identity.run_id}:
        return False
    # Discovery(unique=True) allows several runs of one name.
    return not (request.address.floats and getattr(request.registrar, "unique", False))


def holder_of(address: ListenAddress) -> HeadRecorder | None:
    """The recorder of this process that serves at the port of ``address``, or None."""
    for recorder, served in _remembered():
        if served.server.address.port == address.port and served.server.is_running:
            return recorder
    return None


def _remembered() -> Iterator[tuple[HeadRecorder, Served]]:
    # keyrefs() is a list: another thread may add to the registry meanwhile.
    for reference in _SERVED.keyrefs():
        recorder = reference()
        if recorder is not None:
            yield recorder, _SERVED[recorder]
