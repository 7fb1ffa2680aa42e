"""The exporter for anybody's training loop: declare the heads, record once per update."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsFloat, SupportsIndex

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.arguments import payload
from rl_exporter.forks import in_forked_child
from rl_exporter.heads import Heads
from rl_exporter.identity import Identity, identify
from rl_exporter.leaving import left_by, left_by_interpreter
from rl_exporter.log import exporter_log
from rl_exporter.payload import PPOUpdateHandler, PPOUpdatePayload
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.scrapers import while_lingering
from rl_exporter.snapshot import RunState, SanctumSnapshot

if TYPE_CHECKING:
    from rl_exporter.notify.notifier import Notifier

LINGER_SECONDS = 270.0
"""Longest wait for scrapers at the end: for two scrapes, 120 s apart at most, one of which fails."""

_LOG = exporter_log()
_ENDED = "run %r has ended, and nobody sees its later updates; call serve() for a new run"
_REPLACED = (
    "an update of run %r is dropped, and so are later ones: a later serve() replaced this recorder; record "
    "with the one that it returned"
)

PerHead = Mapping[str, SupportsFloat | None]
"""A number for each head by name; a head that is left out, or None, was not measured."""


class HeadRecorder:
    """Records updates and serves them. As a context manager it ends the run with the block.

    ``completed`` at its end, ``interrupted`` by Ctrl-C, ``failed`` by any other exception. ``sys.exit`` counts
    by its status: 0 is ``completed``, 128 + n ``interrupted`` where signal n asks for an end, as SIGTERM does.
    A recorder that nobody closes ends the run with the interpreter. In a forked child it does nothing. Its repr
    says which run it is, how that is, and where.
    """

    def __init__(
        self,
        aggregator: SanctumAggregator,
        server: MetricsServer,
        *,
        linger: float = LINGER_SECONDS,
        identity: Identity | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._aggregator = aggregator
        self.notifier = notifier
        self._handler: PPOUpdateHandler = aggregator
        self._server = server
        self._linger = linger
        self._identity = identity or identify(aggregator.snapshot().run.run_id)
        self._closed = self._placed = False
        atexit.register(self._end_with_interpreter)
        in_forked_child(self._let_go)

    @property
    def url(self) -> str:
        """Where the landing page is; ``/metrics`` is below it."""
        return self._server.url

    @property
    def handler(self) -> PPOUpdateHandler:
        """The one-method seam, for whoever builds payloads."""
        return self._handler

    @property
    def closed(self) -> bool:
        """Whether the run has ended, or another recorder has taken the place of this one."""
        return self._closed

    def __repr__(self) -> str:
        snapshot = self.snapshot()
        state = "replaced" if isinstance(self._handler, _Unseen) and self._handler.drops else snapshot.run_state
        where = f"at {self.url}/metrics" if self._server.is_running else "no longer served"
        return f"<{type(self).__name__} of run {snapshot.run.run_id!r}: {state}, {where}>"

    @property
    def heads(self) -> Heads:
        """The heads that it was declared with."""
        return self._aggregator.snapshot().tamiyo.heads

    def snapshot(self) -> SanctumSnapshot:
        """The run after its last update."""
        return self._aggregator.snapshot()

    def record(
        self,
        entropy: PerHead | None = None,
        *,
        # The numbers of rl_exporter.numbers; pytest tests/exporter/test_numbers.py --golden writes them anew.
        # numbers
        choice_entropy: PerHead | None = None,
        choice_share: PerHead | None = None,
        open_share: PerHead | None = None,
        head_gradient_norm: PerHead | None = None,
        head_importance_ratio_max: PerHead | None = None,
        state_information: PerHead | None = None,
        advantage_margin: PerHead | None = None,
        advantage_margin_t: PerHead | None = None,
        state_information_ratio: PerHead | None = None,
        entropy_target: PerHead | None = None,
        entropy_coefficient_applied: PerHead | None = None,
        entropy_coefficient_proposed: PerHead | None = None,
        interventions_raised: PerHead | None = None,
        interventions_released: PerHead | None = None,
        controller_saturated: PerHead | None = None,
        environment_steps: SupportsIndex | None = 0,
        episodes: SupportsIndex | None = 0,
        episode_return: SupportsFloat | None = None,
        learning_rate: SupportsFloat | None = None,
        episode_length: SupportsFloat | None = None,
        entropy_coefficient: SupportsFloat | None = None,
        kl_divergence: SupportsFloat | None = None,
        clipped_share: SupportsFloat | None = None,
        gradient_norm: SupportsFloat | None = None,
        policy_loss: SupportsFloat | None = None,
        value_loss: SupportsFloat | None = None,
        explained_variance: SupportsFloat | None = None,
        update_duration: SupportsFloat | None = None,
        rollout_duration: SupportsFloat | None = None,
        # end of the numbers
        action_shares: Mapping[str, Sequence[SupportsFloat] | None] | None = None,
        nan_steps: Mapping[str, SupportsIndex] | None = None,
        inf_steps: Mapping[str, SupportsIndex] | None = None,
        nan_gradients: Mapping[str, SupportsIndex] | None = None,
        inf_gradients: Mapping[str, SupportsIndex] | None = None,
        environment_metrics: Mapping[str, SupportsFloat] | None = None,
    ) -> None:
        """Record one update, with whatever of it is known. Call it once per update.

        ``entropy``: nats, mean over every step. ``choice_entropy``: mean of H / ln(valid choices) over the
        steps at which the head decided, in [0, 1]; ``choice_share``: the share of such steps; ``open_share``:
        of the steps at which some valid operation would have let it decide. Norms before clipping; divergence
        in nats; durations in seconds; ``nan_steps`` and the like: steps, or gradients, of a head that were not
        finite. ``environment_steps`` and ``episodes`` since the last update.
        ``environment_metrics``: numbers of the environment, exported as gauges ``rl_environment_...``, with
        labels where the key has some: ``{"accuracy_ratio": 0.9, 'wins_ratio{map="ice"}': 0.5}``. Names and
        values that are impossible are left out, and the log says so once.

        None is not measured, for one head, too. Numbers of NumPy, torch and the like will do, also arrays and
        tensors of one element; a tensor on an accelerator costs a synchronisation each, so move them together
        with one ``tolist()``. Raises ValueError for a head that was not declared, TypeError for what is no
        number, such as a text, and then counts nothing of the update. An impossible number never raises: it is
        counted by field, logged once and not exported.
        """
        self._handler.handle_ppo_update(payload(locals()))

    def count_record_error(self) -> None:
        """Count an error in telemetry around this recorder that lost an update, or a part of it."""
        self._aggregator.count_record_error()

    def close(self, state: RunState = RunState.COMPLETED) -> None:
        """End the run. Serve on, ``linger`` seconds at most, until its scrapers have fetched the final state.

        Its scrapers are those of the last minutes; a registered run waits for at least one. The log says for
        whom it waits. Ctrl-C ends the wait and nothing else.
        Messages on their way get a few seconds more.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._end_with_interpreter)
        self._aggregator.set_run_state(state)
        if self.notifier is not None:
            self.notifier.run_ended()
        self._server.scrapers.run_ended(expected=self._identity.listed)
        try:
            with suppress(KeyboardInterrupt):
                self._say_who_is_waited_for(state)
                self._server.scrapers.wait(self._linger)
        finally:
            self._identity.close()
            self._server.stop()
            self._handler = _Unseen(self._identity.run_id, _ENDED, self._aggregator)
            if self.notifier is not None:
                with suppress(KeyboardInterrupt):
                    self.notifier.close()

    def _say_who_is_waited_for(self, state: RunState) -> None:
        """A program that stands still at its end looks broken to whoever does not know why."""
        who = self._server.scrapers.waits_for()
        if who and self._linger > 0:
            run_id, why = self.snapshot().run.run_id, while_lingering(who, self._linger)
            _LOG.warning("run %r %s; %s", run_id, state, why)

    def give_way(self) -> None:
        """Hand the run to another recorder; from now on this one does nothing. ``serve`` calls it."""
        self._closed = True
        atexit.unregister(self._end_with_interpreter)
        if self.notifier is not None:
            self.notifier.give_way()
        self._handler = _Unseen(self._identity.run_id, _REPLACED)

    def print_place(self) -> None:
        """Print, once, the run and the address of its ``/metrics``."""
        if self._placed:
            return
        self._placed = True
        with suppress(OSError, ValueError):  # of a standard output that is closed
            print(f"run {self.snapshot().run.run_id}: {self.url}/metrics", flush=True)  # noqa: T201 - its subject

    def _let_go(self) -> None:
        """In a forked child: the run is the parent's to end."""
        self._closed = True
        atexit.unregister(self._end_with_interpreter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(left_by(error))

    def _end_with_interpreter(self) -> None:
        # Ctrl-C a second time, while the server stops: no traceback of atexit.
        with suppress(KeyboardInterrupt):
            self.close(left_by_interpreter())


class _Unseen:
    """Takes the updates of a recorder that no scrape sees any more, which the log says once, in ``line``.

    ``handler`` counts them still; without one they are dropped.
    """

    def __init__(self, run_id: str, line: str, handler: PPOUpdateHandler | None = None) -> None:
        self._run_id, self._line = run_id, line
        self._handler = handler
        self._said = False

    @property
    def drops(self) -> bool:
        """Whether nothing counts the updates."""
        return self._handler is None

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Count the update, or drop it."""
        if self._handler is not None:
            self._handler.handle_ppo_update(payload)
        if not self._said:
            self._said = True
            _LOG.warning(self._line, self._run_id)
