"""Measures what telemetry costs: the host part of an update, and all work that training does only for it.

All figures, and those of the peer, come from one run of this program, so that their ratios hold on any machine.

The update is that of ``rl-train --env heads`` with its defaults. The peer sets prometheus_client gauges in the
usual way, `Gauge.labels(...).set()` for each head, and renders with a full `generate_latest()`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from rl_exporter import RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig, RunConfig
from rl_training.environments.adapter import make_environment
from rl_training.telemetry.emitter import build_payload

PAIRS = 40
REPEATS = 2000


def per_call(function: Callable[[], object]) -> float:
    """Median seconds per call."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def middle_half(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of the middle half, and its standard error; other programs disturb the outer quarters."""
    ordered = sorted(differences)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    # Winsorized: the middle half alone would look less uncertain than it is (Tukey and McLaughlin 1963).
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorized) / (len(kept) / len(ordered) * len(ordered) ** 0.5)
    return statistics.fmean(kept), error


def main() -> None:
    """Measure and print the figures."""
    torch.set_num_threads(1)
    agents = {}
    for telemetry in (True, False):
        environment = make_environment("heads", RunConfig().num_envs, {"consult": "table"})
        agent = PPOAgent(environment.heads, environment.observation_size, PPOConfig(telemetry=telemetry))
        collector = RolloutCollector(environment, agent.network, seed=0, device=agent.device)
        agents[telemetry] = (agent, collector)

    times: dict[bool, list[float]] = {True: [], False: []}
    result = None
    for pair in range(PAIRS):
        for telemetry in (pair % 2 == 0, pair % 2 == 1):
            agent, collector = agents[telemetry]
            rollout = collector.collect(agent.config.rollout_steps)
            # CPU time, because wall-clock time would include other processes on the machine.
            started = time.process_time()
            outcome = agent._update_network(rollout)  # noqa: SLF001 - the part to measure; no public method runs it alone
            times[telemetry].append(time.process_time() - started)
            result = outcome if telemetry else result
    assert result is not None
    update = statistics.median(times[False])
    extra, error = middle_half([a - b for a, b in zip(times[True], times[False], strict=True)])

    aggregator = SanctumAggregator(agents[True][0].heads, RunInfo("benchmark"))
    payload = build_payload(result)
    host = per_call(lambda: aggregator.handle_ppo_update(payload))

    def record_and_read() -> None:
        aggregator.handle_ppo_update(payload)
        aggregator.snapshot()

    read = per_call(record_and_read)
    renderer = Renderer(aggregator.snapshot)
    cached = per_call(lambda: renderer.render(""))

    registry = CollectorRegistry()
    gauges = [Gauge(f"peer_{i}", "A peer.", ["run_id", "head"], registry=registry) for i in range(8)]
    names = list(payload.heads)

    def peer() -> None:
        for gauge in gauges:
            for name in names:
                gauge.labels("benchmark", name).set(0.5)

    setting = per_call(peer)
    full = per_call(lambda: generate_latest(registry))
    print(f"update without telemetry             {update * 1e3:9.2f} ms")
    print(
        f"all telemetry, paired difference     {extra * 1e3:9.2f} ms  {extra / update:8.3%} of the update"
        f" (+- {error / update:.3%})"
    )
    print(f"recording one update                 {host * 1e6:9.1f} us  {host / update:8.3%} of the update")
    print(f"  and its snapshot, if somebody looks {read * 1e6:8.1f} us  {read / update:8.3%} of the update")
    print(f"peer: labels().set() for 8 x 8       {setting * 1e6:9.1f} us  {setting / host:8.2f} x recording")
    print(f"scrape, update part from memory      {cached * 1e6:9.1f} us")
    print(f"peer: generate_latest(), 8 x 8 only  {full * 1e6:9.1f} us  {full / cached:8.2f} x the scrape")


if __name__ == "__main__":
    main()
