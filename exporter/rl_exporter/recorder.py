"""The exporter for anybody's training loop: declare the heads, record once per update."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsFloat, SupportsIndex

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.arguments import payload
from rl_exporter.forks import in_forked_child
from rl_exporter.heads import MAXIMUM, Head, Heads
from rl_exporter.identity import Identity, Registrar, identify
from rl_exporter.leaving import left_by, left_by_interpreter
from rl_exporter.payload import PPOUpdateHandler
from rl_exporter.server.gate import Gate
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.listen import ListenAddress, parse_listen_address
from rl_exporter.snapshot import RunInfo, RunState, SanctumSnapshot

LINGER_SECONDS = 60.0

PerHead = Mapping[str, SupportsFloat | None]
"""A number for each head by name; a head that is left out, or None, was not measured."""


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
) -> HeadRecorder:
    """Serve ``/metrics`` for a policy with these heads, on background threads, until ``close``.

    ``heads`` maps names to numbers of choices, such as ``{"gripper": 4, "arm": 9}``. ``run_id`` is generated
    when left out. ``listen`` is ``HOST:PORT``, by default 127.0.0.1:28008; port 0 takes a free one.
    ``entropy_multipliers`` are the factors on the base entropy coefficient, 1.0 for a head left out.
    ``thresholds`` are (warning, critical) of a head's effective ratio, (0.5, 0.25) for a head left out; 0
    switches one off. ``reference`` is the entropy that counts as 1, of all heads or by head: ``"maximum"``,
    ``"start"`` (the median of the first ten updates) or nats. ``actions`` names the actions of heads, in order.
    ``register``, such as a ``Discovery``, lists the run where Prometheus discovers it, until its end.
    ``web_config`` is a file in the format of Prometheus' exporter-toolkit: TLS and who may read.
    ``allowed_hosts`` are names under which scrapers reach this machine, beside its own.

    Raises ValueError for heads, names or files that are impossible, and names that are taken, and OSError if it
    cannot listen. Both come before training starts, in one line with the remedy.
    """
    declared = (
        heads
        if isinstance(heads, Heads)
        else declare_heads(heads, entropy_multipliers or {}, thresholds or {}, reference, actions or {})
    )
    address = parse_listen_address(listen) if isinstance(listen, str) else listen
    gate = Gate(web_config, allowed_hosts)
    with ExitStack() as undo:
        identity = undo.enter_context(closing(identify(run_id, register)))
        run = RunInfo(
            run_id=identity.run_id,
            experiment=experiment,
            algorithm=algorithm,
            environment=environment,
            seed=str(seed),
            device=device,
            world_size=world_size,
        )
        aggregator = SanctumAggregator(declared, run)
        server = undo.enter_context(MetricsServer(aggregator.snapshot, address, gate=gate))
        server.reached_at(identity.listening(server.address, server.scheme))
        undo.pop_all()
    return HeadRecorder(aggregator, server, linger=linger, identity=identity)


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


class HeadRecorder:
    """Records updates and serves them. As a context manager it ends the run with the block.

    ``completed`` at its end, ``interrupted`` by Ctrl-C, ``failed`` by any other exception. ``sys.exit`` counts
    by its status: 0 is ``completed``, 128 + n ``interrupted`` where signal n asks for an end, as SIGTERM does.
    A recorder that nobody closes ends the run with the interpreter. In a forked child it does nothing.
    """

    def __init__(
        self,
        aggregator: SanctumAggregator,
        server: MetricsServer,
        *,
        linger: float = LINGER_SECONDS,
        identity: Identity | None = None,
    ) -> None:
        self._aggregator = aggregator
        self._server = server
        self._linger = linger
        self._identity = identity or identify(aggregator.snapshot().run.run_id)
        self._closed = False
        atexit.register(self._end_with_interpreter)
        in_forked_child(self._let_go)

    @property
    def url(self) -> str:
        """Where the landing page is; ``/metrics`` is below it."""
        return self._server.url

    @property
    def handler(self) -> PPOUpdateHandler:
        """The one-method seam, for whoever builds payloads."""
        return self._aggregator

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
        self._aggregator.handle_ppo_update(payload(locals()))

    def count_record_error(self) -> None:
        """Count an error in telemetry around this recorder that lost an update, or a part of it."""
        self._aggregator.count_record_error()

    def close(self, state: RunState = RunState.COMPLETED) -> None:
        """End the run. Serve on, ``linger`` seconds at most, until its scrapers have fetched the final state.

        Its scrapers are those of the last minutes; a registered run waits for at least one.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._end_with_interpreter)
        self._aggregator.set_run_state(state)
        self._server.scrapers.run_ended(expected=self._identity.listed)
        try:
            self._server.scrapers.wait(self._linger)
        finally:
            self._identity.close()
            self._server.stop()

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
        # Ctrl-C while recent scrapers fetch the final state: no more waiting, and no traceback of atexit.
        with suppress(KeyboardInterrupt):
            self.close(left_by_interpreter())
