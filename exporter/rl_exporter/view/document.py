"""A snapshot as a JSON document, for scripts."""

from __future__ import annotations

import json
import math

from rl_exporter.heads import Head
from rl_exporter.histogram import Histogram
from rl_exporter.snapshot import HeadReading, SanctumSnapshot
from rl_exporter.view.verdict import head_status, run_status


def json_line(snapshot: SanctumSnapshot, url: str | None = None) -> str:
    """The document on one line. null is not measured, or not a number."""
    return json.dumps(_finite(document(snapshot, url)), ensure_ascii=False, allow_nan=False)


def document(snapshot: SanctumSnapshot, url: str | None = None) -> dict[str, object]:
    """Every number of a snapshot, with the verdicts on it. Nats, seconds, shares in [0, 1]."""
    run, tamiyo = snapshot.run, snapshot.tamiyo
    return {
        "url": url,
        "run_id": run.run_id,
        "run_state": snapshot.run_state.value,
        "status": run_status(snapshot).name.lower(),
        "experiment": run.experiment,
        "algorithm": run.algorithm,
        "environment": run.environment,
        "seed": run.seed,
        "device": run.device,
        "world_size": run.world_size,
        "updates": tamiyo.updates,
        "start_timestamp": snapshot.start_timestamp,
        "last_update_timestamp": snapshot.last_update_timestamp,
        "environment_steps": snapshot.environment_steps,
        "episodes": snapshot.episodes,
        "episode_return": snapshot.episode_return,
        "entropy": tamiyo.entropy,
        "entropy_coefficient": tamiyo.entropy_coefficient,
        "kl_divergence": tamiyo.kl_divergence,
        "clipped_share": tamiyo.clipped_share,
        "gradient_norm": tamiyo.gradient_norm,
        "policy_loss": tamiyo.policy_loss,
        "value_loss": tamiyo.value_loss,
        "explained_variance": tamiyo.explained_variance,
        "rollout_durations": _histogram(snapshot.rollout_durations),
        "update_durations": _histogram(snapshot.update_durations),
        "record_errors": snapshot.record_errors,
        "heads": [
            _head(head, tamiyo.readings[head.name], tamiyo.unmeasured_updates(head.name))
            for head in tamiyo.heads
        ],
    }


def _head(head: Head, reading: HeadReading, unmeasured: int | None) -> dict[str, object]:
    status = head_status(reading)
    return {
        "name": head.name,
        "choices": head.choices,
        "max_entropy": head.max_entropy,
        "entropy_multiplier": head.entropy_multiplier,
        "entropy": reading.entropy if reading.measured else None,
        "normalized": reading.normalized,
        "choice_entropy": reading.choice_entropy,
        "choice_share": reading.choice_share,
        "open_share": reading.open_share,
        "effective": reading.effective,
        "level": reading.level.value if reading.level else None,
        "status": status.name.lower() if status is not None else None,
        "state": reading.state.value if reading.state else None,
        "state_streak": reading.state_streak,
        "warning_streak": reading.warning_streak,
        "critical_streak": reading.critical_streak,
        "conditions": {condition.value: since for condition, since in reading.conditions},
        "slope": reading.slope,
        "unmeasured_updates": unmeasured,
        "gradient_norm": reading.gradient_norm,
        "importance_ratio_max": reading.importance_ratio_max,
        "nan_values": reading.nan_values,
        "inf_values": reading.inf_values,
        "effective_histogram": _histogram(reading.effective_histogram),
    }


def _histogram(histogram: Histogram) -> dict[str, object]:
    return {"bounds": list(histogram.bounds), "counts": list(histogram.counts), "sum": histogram.sum}


def _finite(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
