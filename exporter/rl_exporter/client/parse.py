"""Parse /metrics back into the snapshot from which it was rendered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeVar

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from rl_exporter.environment_metrics import PREFIX, EnvironmentNumber
from rl_exporter.environment_metrics import Series as EnvironmentSeries
from rl_exporter.heads import MAXIMUM, START, Head, Heads
from rl_exporter.health import Condition, HeadState
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import DurationNumbers, attributes
from rl_exporter.snapshot import (
    NO_DURATIONS,
    NO_RATIOS,
    HeadReading,
    RunInfo,
    RunState,
    SanctumSnapshot,
    TamiyoState,
    first_reading,
)

MAX_LINES = 100_000
"""A run of a thousand heads has half as many."""

_LONGEST_LINE = 64 * 1024


class NotAnExporterError(ValueError):
    """A body that is not the /metrics of one run; the message says what is wrong with it."""


def parse_snapshot(text: str) -> SanctumSnapshot:
    """Parse a body in the Prometheus text format or OpenMetrics.

    The result equals the snapshot that was rendered. Raises NotAnExporterError if the body is cut off or
    malformed, or shows no run or several.
    """
    _require_parsable(text)
    try:
        return _snapshot(_Series(text))
    except NotAnExporterError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise NotAnExporterError(
            f"not the /metrics of a run: a value or label is impossible: {reason}"
        ) from error


def _require_parsable(text: str) -> None:
    """Limit lines and their lengths: the parser's time grows with the square of a line's length."""
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES or max(map(len, lines)) > _LONGEST_LINE:
        limits = f"{MAX_LINES} lines of {_LONGEST_LINE // 1024} KiB"
        raise NotAnExporterError(f"not the /metrics of a run: more than {limits}")


def _snapshot(series: _Series) -> SanctumSnapshot:
    run = _run_info(series)
    states = series.by_label("rl_training_run_state", "state")
    dropped = series.by_label("rl_exporter_dropped_values_total", "field")
    histograms: dict[str, Any] = {
        f"{number.name}s": _histogram(series, number.row.metric, {}, NO_DURATIONS)
        for number in attributes(DurationNumbers)
    }
    return SanctumSnapshot(
        run=run,
        tamiyo=_tamiyo(series, _heads(series)),
        run_state=RunState(_present("rl_training_run_state", _active(states))),
        record_errors=int(series.required("rl_exporter_record_errors_total")),
        environment_metrics=_environment_metrics(series),
        dropped=tuple((field, int(value)) for field, value in dropped.items()),
        **_numbers(series, SanctumSnapshot),
        **histograms,
    )


def _environment_metrics(series: _Series) -> tuple[EnvironmentNumber, ...]:
    found = [
        EnvironmentNumber(_environment_series(name, labels), value)
        for name in series.names()
        if name.startswith(PREFIX)
        for labels, value in series.all(name)
    ]
    return tuple(sorted(found))


def _environment_series(name: str, labels: Mapping[str, str]) -> EnvironmentSeries:
    own = sorted((label, value) for label, value in labels.items() if label != "run_id")
    return EnvironmentSeries(name.removeprefix(PREFIX), tuple(own))


def _numbers(series: _Series, owner: type) -> dict[str, Any]:
    """The numbers of the run or its policy, by attribute. Every run has counters, and what has no default."""
    found = {}
    for number in attributes(owner):
        needed = number.row.kind == "counter" or not number.optional
        value = series.required(number.row.metric) if needed else series.value(number.row.metric)
        found[number.name] = int(value) if number.whole and value is not None else value
    return found


class _Series:
    """Samples by metric name, and by name and head, in the order of the body. No look-up scans the body."""

    def __init__(self, text: str) -> None:
        parse = parse_openmetrics if text.endswith("# EOF\n") else parse_text
        self._samples: dict[tuple[str, str | None], list[tuple[dict[str, str], float]]] = {}
        try:
            for family in parse(text):
                for sample in family.samples:
                    for head in {None, sample.labels.get("head")}:
                        found = self._samples.setdefault((sample.name, head), [])
                        found.append((sample.labels, sample.value))
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120] or "it breaks off within a line"
            raise NotAnExporterError(f"not a whole /metrics body: {reason}") from error

    def all(self, name: str, head: str | None = None) -> list[tuple[dict[str, str], float]]:
        """Labels and values of a metric, of one head or of all."""
        return self._samples.get((name, head), [])

    def names(self) -> list[str]:
        """The metrics of the body."""
        return [name for name, head in self._samples if head is None]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the first series with these labels; None where there is none."""
        found = self.all(name, labels.get("head"))
        return next((value for those, value in found if labels.items() <= those.items()), None)

    def required(self, name: str, **labels: str) -> float:
        """The same, for what every exporter shows."""
        return _present(name, self.value(name, **labels))

    def by_label(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Values of the series with these labels, by the value of another label."""
        return {
            those[label]: value
            for those, value in self.all(name, labels.get("head"))
            if labels.items() <= those.items() and label in those
        }


T = TypeVar("T")


def _present(name: str, value: T | None) -> T:
    if value is None:
        raise NotAnExporterError(f"{name} is missing: not the /metrics of a run, or not all of it")
    return value


def _active(states: Mapping[str, float]) -> str | None:
    return next((name for name, value in states.items() if value == 1), None)


def _run_info(series: _Series) -> RunInfo:
    infos = [labels for labels, _ in series.all("rl_training_run_info")]
    if not infos:
        raise NotAnExporterError("it shows 0 runs: not the /metrics of a run, or not all of it")
    if len(infos) != 1:
        raise NotAnExporterError(
            f"it shows {len(infos)} runs; the address of one rl_exporter shows exactly one"
        )
    known = {field.name for field in fields(RunInfo)}
    described = {name: value for name, value in infos[0].items() if name in known}
    return RunInfo(**{**described, "world_size": int(described.get("world_size", 1))})  # type: ignore[arg-type] # known holds names of fields


def _heads(series: _Series) -> Heads:
    maxima = series.by_label("rl_policy_head_entropy_max_nats", "head")
    try:
        return Heads([_head(series, name, nats) for name, nats in maxima.items()])
    except (ValueError, OverflowError) as error:
        raise NotAnExporterError(f"its heads are not those of a policy: {error}") from error


def _head(series: _Series, name: str, max_entropy: float) -> Head:
    choices = round(math.exp(max_entropy))
    multiplier = series.value("rl_policy_head_entropy_coefficient", head=name)
    thresholds = series.by_label("rl_policy_head_entropy_threshold_ratio", "level", head=name)
    reference = series.value("rl_policy_head_entropy_reference_nats", head=name)
    actions = tuple(series.by_label("rl_policy_head_action_ratio", "action", head=name))
    return Head(
        name,
        choices,
        1.0 if multiplier is None else multiplier,
        thresholds.get("warning"),
        thresholds.get("critical"),
        _reference(max_entropy, reference, bool(thresholds)),
        () if _are_numbers(actions, choices) else actions,
    )


def _are_numbers(actions: tuple[str, ...], choices: int) -> bool:
    # Compared in length first: a foreign body may claim 10^100 choices.
    return len(actions) == choices and all(name == str(number) for number, name in enumerate(actions))


def _reference(max_entropy: float, reference: float | None, declares: bool) -> str | float:
    """What a head's reference was declared as; a start that is known by now reads as its number of nats."""
    if not declares or max_entropy in {reference, 0.0}:
        return MAXIMUM
    return START if reference is None else reference


def _tamiyo(series: _Series, heads: Heads) -> TamiyoState:
    numbers = _numbers(series, TamiyoState)
    readings = {head.name: _reading(series, head, numbers["updates"]) for head in heads}
    return TamiyoState(heads=heads, readings=MappingProxyType(readings), **numbers)


def _reading(series: _Series, declared: Head, updates: int) -> HeadReading:
    head, first = declared.name, first_reading(declared)
    numbers: dict[str, Any] = {}
    for number in attributes(HeadReading):
        value = series.value(number.row.metric, head=head, **dict(number.row.labels))
        if value is not None:
            numbers[number.name] = int(value) if number.whole else value
    unmeasured = series.value("rl_policy_head_unmeasured_updates", head=head)
    state = _active(series.by_label("rl_policy_head_state", "state", head=head))
    streaks = series.by_label("rl_policy_head_low_entropy_streak_updates", "threshold", head=head)
    return replace(
        first,
        **numbers,
        measured_update=0 if unmeasured is None else updates - int(unmeasured),
        warning_streak=_streak(streaks, declared.thresholds.warning),
        critical_streak=_streak(streaks, declared.thresholds.critical),
        state=None if state is None else HeadState(state),
        action_shares=tuple(series.by_label("rl_policy_head_action_ratio", "action", head=head).values()),
        effective_histogram=_histogram(
            series, "rl_policy_head_effective_entropy_ratio", {"head": head}, NO_RATIOS
        ),
        conditions=_conditions(series, head),
    )


def _streak(streaks: Mapping[str, float], threshold: float) -> int | None:
    length = streaks.get(f"{threshold:g}")
    return None if length is None else int(length)


def _conditions(series: _Series, head: str) -> tuple[tuple[Condition, float], ...]:
    name = "rl_policy_head_condition_since_timestamp_seconds"
    since = {Condition(key): value for key, value in series.by_label(name, "condition", head=head).items()}
    return tuple((condition, since[condition]) for condition in Condition if condition in since)


def _histogram(series: _Series, name: str, labels: dict[str, str], nothing: Histogram) -> Histogram:
    buckets = series.by_label(f"{name}_bucket", "le", **labels)
    if not buckets:
        return nothing
    bounds = tuple(float(le) for le in buckets if le != "+Inf")
    counts = [int(value) for value in buckets.values()]
    return Histogram(
        bounds,
        tuple(count - before for before, count in pairwise((0, *counts))),
        series.required(f"{name}_sum", **labels),
    )
