"""``serve``: from the heads of a policy to its recorder, which may replace a former one of the same run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

from rl_exporter.aggregator import SanctumAggregator, kept_heads, listed, require_same_heads
from rl_exporter.heads import MAXIMUM, Head, Heads
from rl_exporter.identity import Identity, Registrar, identify
from rl_exporter.log import exporter_log
from rl_exporter.notify.destination import Destination, parse_destinations
from rl_exporter.recorder import LINGER_SECONDS, HeadRecorder
from rl_exporter.server.gate import Gate
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.listen import AUTO, ListenAddress, ListenError, parse_listen_address
from rl_exporter.snapshot import RunInfo, SanctumSnapshot
from rl_exporter.succession import Former, Request, Served, former_of, holder_of, remember

if TYPE_CHECKING:
    from rl_exporter.notify.notifier import Notifier

_LOG = exporter_log()

_NAMED_LATER = "?"
"""In place of the run_id, which the registrar assigns, while serve checks the rest of a run's description."""


def serve(
    heads: Mapping[str, SupportsIndex] | Heads,
    *,
    run_id: str | None = None,
    listen: str | ListenAddress | None = None,
    entropy_multipliers: Mapping[str, float] | None = None,
    thresholds: Mapping[str, tuple[float, float]] | None = None,
    reference: str | float | Mapping[str, str | float] = MAXIMUM,
    actions: Mapping[str, Sequence[str]] | None = None,
    experiment: str = "",
    algorithm: str = "",
    environment: str = "",
    seed: object = "",
    device: str = "",
    world_size: int = 1,
    linger: float = LINGER_SECONDS,
    register: Registrar | None = None,
    web_config: Path | str | None = None,
    allowed_hosts: Sequence[str] = (),
    notify: str | Sequence[str] | None = None,
    resume_from: SanctumSnapshot | None = None,
) -> HeadRecorder:
    """Serve ``/metrics`` for a policy with these heads, on background threads, until ``close``.

    ``heads`` maps names to numbers of choices, such as ``{"gripper": 4, "arm": 9}``. ``run_id`` is generated
    when left out. ``listen`` is ``HOST:PORT``, by default 127.0.0.1:28008; port 0 takes a free one, ``"auto"``
    (or ``"HOST:auto"``) the next free one from 28008 on, and prints where.
    ``entropy_multipliers`` are the factors on the base entropy coefficient, 1.0 for a head left out.
    ``thresholds`` are (warning, critical) of a head's effective ratio, (0.5, 0.25) for a head left out; 0
    switches one off. ``reference`` is the entropy that counts as 1, of all heads or by head: ``"maximum"``,
    ``"start"`` (the median of the first ten updates) or nats. ``actions`` names the actions of heads, in order.
    ``register``, such as a ``Discovery``, lists the run where Prometheus discovers it, until its end.
    ``web_config`` is a file in the format of Prometheus' exporter-toolkit: TLS and who may read.
    ``allowed_hosts`` are names under which scrapers reach this machine, beside its own.
    ``notify`` is the URL of a webhook, or several, that hears what the alert rules would page for: Slack,
    Discord, or any that takes JSON as Alertmanager posts it; ``slack:``, ``discord:`` or ``json:`` before it
    says which, and ``@FILE`` reads it from a file. It never holds up the training, nor its end for long.
    ``resume_from`` is the last ``snapshot()`` of the run to continue, or ``parse_snapshot`` of a saved
    ``/metrics`` body: run_id, counters, histograms and streaks carry on.

    Running the cell of a notebook again replaces the former recorder of the run, and the log says so. It is one
    that this process still serves at the same ``listen``: under the same ``run_id``, or where neither has one
    with the same heads at a fixed port. Heads of the same name and size keep their state, others start anew.

    Raises ValueError for heads, names or files that are impossible, and names that are taken, TypeError for a
    ``resume_from`` that is no snapshot, and OSError if it cannot listen. All come before training starts, in
    one line with the remedy, and a former recorder keeps its state.
    """
    declared = (
        heads
        if isinstance(heads, Heads)
        else declare_heads(heads, entropy_multipliers or {}, thresholds or {}, reference, actions or {})
    )
    address = parse_listen_address(listen, auto=True) if isinstance(listen, str) else listen or ListenAddress()
    if resume_from is not None:
        _require_resumable(resume_from, declared)
        run_id = resume_from.run.run_id if run_id is None else run_id
    run = RunInfo(
        run_id=_NAMED_LATER,
        experiment=experiment,
        algorithm=algorithm,
        environment=environment,
        seed=str(seed),
        device=device,
        world_size=world_size,
    )
    request, destinations = Request(run_id, address, register), parse_destinations(notify)
    return _started(request, declared, run, Gate(web_config, allowed_hosts), resume_from, linger, destinations)


def _require_resumable(resume_from: object, heads: Heads) -> None:
    if not isinstance(resume_from, SanctumSnapshot):
        raise TypeError(
            f"resume_from is of type {type(resume_from).__name__}; give the snapshot() of a recorder, or "
            "parse_snapshot(text) of a saved /metrics body"
        )
    require_same_heads(resume_from, heads)


def _started(
    request: Request,
    heads: Heads,
    run: RunInfo,
    gate: Gate,
    resume_from: SanctumSnapshot | None,
    linger: float,
    destinations: Sequence[Destination],
) -> HeadRecorder:
    """The recorder, served. An error leaves a former one of the same run, if there is one, with its state."""
    former = former_of(request, heads)
    resumed = resume_from or (former.state_for(heads) if former else None)
    with ExitStack() as undo:
        identity = _identity(request, former, undo)
        aggregator = SanctumAggregator(heads, replace(run, run_id=identity.run_id), resumed=resumed)
        server = undo.enter_context(_server(request, aggregator, gate, former))
        server.reached_at(identity.listening(server.address, server.scheme))
        undo.pop_all()
    if former is not None and former.served.identity is not identity:
        former.served.identity.close()
    notifier = _notifier(aggregator, server, destinations, former)
    recorder = HeadRecorder(aggregator, server, linger=linger, identity=identity, notifier=notifier)
    remember(recorder, Served(request, aggregator, server, identity))
    if former is not None:
        former.recorder.give_way()
        _say_replaced(former, recorder, resumed)
    if request.address.port == AUTO:
        recorder.print_place()
    return recorder


def _identity(request: Request, former: Former | None, undo: ExitStack) -> Identity:
    """The hold on the run_id: that of the former recorder where the same registrar keeps it, else a new one."""
    if former is None:
        return undo.enter_context(closing(identify(request.run_id, request.registrar)))
    served = former.served
    if served.request.registrar == request.registrar:
        return served.identity
    # In one directory the name is free only now. Elsewhere the former entry stays until the new one is taken,
    # because a directory that is not there must change nothing.
    if _directory(served.request) == _directory(request):
        served.identity.close()
    return undo.enter_context(closing(identify(served.identity.run_id, request.registrar)))


def _directory(request: Request) -> str | None:
    """Where the run is registered; None: nowhere."""
    directory = getattr(request.registrar, "directory", None)
    return None if directory is None else os.path.realpath(directory)


def _server(
    request: Request, aggregator: SanctumAggregator, gate: Gate, former: Former | None
) -> MetricsServer:
    """A server to start; starting it raises ListenError. It takes port and scrapers of the former one over."""
    if former is None:
        return _Named(aggregator.snapshot, request.address, gate=gate)
    server = former.served.server
    server.stop()
    return _Named(aggregator.snapshot, server.address, gate=gate, scrapers=server.scrapers)


def _notifier(
    aggregator: SanctumAggregator,
    server: MetricsServer,
    destinations: Sequence[Destination],
    former: Former | None,
) -> Notifier | None:
    """What posts messages, if anybody wants them. It goes on from what the former one has said."""
    if not destinations:
        return None
    from rl_exporter.notify.notifier import Notifier  # noqa: PLC0415 - its HTTP client is slow to import

    said = former.recorder.notifier if former else None
    judgement = said.judgement if said else None
    return Notifier(aggregator.snapshot, destinations, source=server.url, judgement=judgement)


class _Named(MetricsServer):
    """A server whose error names the run of this process that has its port."""

    def start(self) -> None:
        """As MetricsServer. Raises ListenError."""
        try:
            super().start()
        except ListenError as error:
            holder = holder_of(error.address) if error.in_use else None
            if holder is None:
                raise
            whose = f"run {holder.snapshot().run.run_id!r} of this process, until its close()"
            raise ListenError(error.address, f"{error.reason} by {whose}", in_use=True) from error


def _say_replaced(former: Former, recorder: HeadRecorder, resumed: SanctumSnapshot | None) -> None:
    before, now = former.recorder.snapshot(), recorder.snapshot()
    heads = now.tamiyo.heads
    kept = heads.names if resumed is None else kept_heads(before, heads)
    if resumed is None:
        what = f"it starts anew, because the former one had other heads: {listed(before.tamiyo.heads)}"
    else:
        what = f"it continues after update {resumed.tamiyo.updates}"
    if new := [head for head in heads if head.name not in kept]:
        what += f"; heads that differ start anew: {listed(Heads(new))}"
    line = f"run {now.run.run_id!r} at {recorder.url}: this recorder replaces the former one; {what}"
    _LOG.warning("%s", line)


def declare_heads(
    sizes: Mapping[str, SupportsIndex],
    multipliers: Mapping[str, float],
    thresholds: Mapping[str, tuple[float, float]],
    reference: str | float | Mapping[str, str | float],
    actions: Mapping[str, Sequence[str]],
) -> Heads:
    """The heads from what ``serve`` takes. Raises ValueError."""
    references = reference if isinstance(reference, Mapping) else dict.fromkeys(sizes, reference)
    heads = Heads(
        [
            Head(
                name,
                choices,  # type: ignore[arg-type] # Head makes an int of it
                multipliers.get(name, 1.0),
                warning=thresholds[name][0] if name in thresholds else None,
                critical=thresholds[name][1] if name in thresholds else None,
                reference=references.get(name, MAXIMUM),
                actions=tuple(actions.get(name, ())),
            )
            for name, choices in sizes.items()
        ]
    )
    for name in (*multipliers, *thresholds, *references, *actions):
        heads.named(name)
    return heads
