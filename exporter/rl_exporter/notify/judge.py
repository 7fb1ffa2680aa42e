"""Judges a run from looks at it, as the alert rules judge it from scrapes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from rl_exporter.health import Condition
from rl_exporter.histogram import Histogram
from rl_exporter.notify import alerts
from rl_exporter.notify.alerts import Control, Firing, HeadAlert, RunAlert
from rl_exporter.snapshot import HeadReading, RunState, SanctumSnapshot
from rl_exporter.view.cells import age, printable
from rl_exporter.view.findings import head_findings

_Held = tuple[float, float]
"""When a look last saw that something holds, and since when it does. Unix seconds of the run's clock."""


class RunJudge:
    """Remembers what looks at one run have seen. Not thread-safe; ``now`` is Unix time by the run's clock."""

    def __init__(self, source: str = "") -> None:
        self._source = source
        self.scope = ("", "")
        """Cluster and namespace that list the run, as its watcher last knew them."""
        self.forget()

    def forget(self) -> None:
        """Start anew: the run goes on elsewhere, or another one has its address."""
        self.seen: SanctumSnapshot | None = None
        """The last snapshot; None before the first, and of a run that goes on elsewhere."""
        self._seen_at = 0.0
        self._conditions: dict[tuple[Condition, str], _Held] = {}
        self._others: dict[tuple[str, str], _Held] = {}
        """By alert and head: counts that have risen, and a run that has stalled."""
        self._bounds: dict[str, deque[tuple[float, float]]] = {}
        """Of each head under control: when a look saw it, and for how many updates it had been at its bound."""
        self._silent_since: float | None = None
        self._gone_since: float | None = None

    def answered(self, snapshot: SanctumSnapshot, now: float) -> None:
        """Take a look at the run. Another run at the same address starts anew."""
        former = self.seen
        if former is not None and former.run.run_id != snapshot.run.run_id:
            self.forget()
            former = None
        for name, reading in snapshot.tamiyo.readings.items():
            self._take_head(name, reading, now)
        if former is not None:
            self._take_counts(former, snapshot, now)
        begun = _stalled_since(snapshot, now)
        if begun is not None:
            self._others[alerts.STALLED.name, ""] = now, begun
        self.seen, self._seen_at = snapshot, now
        self._silent_since = self._gone_since = None

    def silent(self, now: float) -> None:
        """The run is listed, but does not answer."""
        self._gone_since = None
        self._silent_since = now if self._silent_since is None else self._silent_since

    def gone(self, now: float) -> None:
        """The run is no longer listed."""
        self._silent_since = None
        self._gone_since = now if self._gone_since is None else self._gone_since

    def lost(self) -> bool:
        """Whether the run was running when it last answered, and does not now."""
        running = self.seen is not None and self.seen.run_state is RunState.RUNNING
        return running and (self._silent_since is not None or self._gone_since is not None)

    def over(self, now: float) -> bool:
        """Whether the run is no longer listed, and nothing about it can fire again."""
        return self._gone_since is not None and not any(self.firing(now)) and (
            not self.lost() or now - self._gone_since > alerts.VANISHED_FOR
        )  # fmt: skip

    def firing(self, now: float) -> Iterator[Firing]:
        """What fires now, without regard to what inhibits what."""
        if self.seen is None:
            return
        yield from self._of_the_run(self.seen, now)
        if self.seen.run_state is RunState.RUNNING and now - self._seen_at <= alerts.HYSTERESIS:
            for name, reading in self.seen.tamiyo.readings.items():
                yield from self._of_head(self.seen, name, reading, now)

    def _take_head(self, name: str, reading: HeadReading, now: float) -> None:
        idle = dict(reading.conditions).get(Condition.IDLE, now)
        for condition, since in reading.conditions:
            least = alerts.SUSTAINED.get(condition)
            stands_still = condition in alerts.SILENCED_WHEN_IDLE and now - idle > alerts.STARVED_AFTER
            if least is not None and now - since >= least and not stands_still:
                self._conditions[condition, name] = now, since

        if reading.controller_saturated is not None:
            bounds = self._bounds.setdefault(name, deque())
            bounds.append((now, reading.controller_saturated))
            while now - bounds[0][0] > alerts.BOUND_WITHIN:
                bounds.popleft()

    def _spent(self, name: str, now: float) -> bool | None:
        """Whether the controller of a head has been at its bound; None where none has acted of late."""
        recent = [n for at, n in self._bounds.get(name, ()) if now - at <= alerts.BOUND_WITHIN]
        return max(recent) >= alerts.BOUND_UPDATES if recent else None

    def _take_counts(self, former: SanctumSnapshot, snapshot: SanctumSnapshot, now: float) -> None:
        before = former.tamiyo.readings
        for name, reading in snapshot.tamiyo.readings.items():
            if name in before and _risen(_nonfinite(before[name]), _nonfinite(reading)):
                self._others[alerts.NONFINITE.name, name] = now, now
        if _risen(former.record_errors, snapshot.record_errors):
            self._others[alerts.ERRORS.name, ""] = now, now

    def _of_the_run(self, seen: SanctumSnapshot, now: float) -> Iterator[Firing]:
        running = seen.run_state is RunState.RUNNING
        if seen.run_state is RunState.FAILED and now - self._seen_at <= alerts.FAILED_FOR:
            yield self._firing(alerts.FAILED, seen, "", self._seen_at, f"after {_updates(seen)}")
        if running and self._silent_since is not None and now - self._silent_since >= alerts.LOST_AFTER:
            yield self._firing(alerts.DOWN, seen, "", self._silent_since, f"its last answer: {_updates(seen)}")
        if running and self._gone_since is not None:
            gone, died_before = now - self._gone_since, self._gone_since - self._seen_at
            # Who removes a run an hour and more after its death knows of it.
            if alerts.LOST_AFTER <= gone <= alerts.VANISHED_FOR and died_before <= alerts.VANISHED_FOR:
                yield self._firing(alerts.VANISHED, seen, "", self._gone_since, "it is no longer listed")
        if running and now - self._seen_at <= alerts.HYSTERESIS:
            yield from self._of_others(seen, now)

    def _of_others(self, seen: SanctumSnapshot, now: float) -> Iterator[Firing]:
        stalled = self._others.get((alerts.STALLED.name, ""))
        if stalled is not None and now - stalled[0] <= alerts.BRIDGE:
            evidence = f"no update for {age(now - stalled[1])}; {_updates(seen)} so far"
            yield self._firing(alerts.STALLED, seen, "", stalled[1], evidence)
        errors = self._others.get((alerts.ERRORS.name, ""))
        if errors is not None and now - errors[0] <= alerts.ERRORS_FOR:
            evidence = f"{seen.record_errors} so far: values may be missing or old"
            yield self._firing(alerts.ERRORS, seen, "", errors[1], evidence)

    def _of_head(self, seen: SanctumSnapshot, name: str, reading: HeadReading, now: float) -> Iterator[Firing]:
        spent = self._spent(name, now)
        for alert in alerts.HEAD_ALERTS:
            held = self._conditions.get((alert.condition, name))
            if held is None or held[0] - held[1] < alert.after or now - held[0] > alert.held:
                continue
            if not _controlled(alert.control, spent):
                continue
            blocked = alert.unless and self._conditions.get((alert.unless, name))
            if not blocked or now - blocked[0] > alerts.BRIDGE:
                yield self._firing(alert, seen, name, held[1], _evidence(seen, name, alert.condition))
        counted = self._others.get((alerts.NONFINITE.name, name))
        if counted is not None and now - counted[0] <= alerts.NONFINITE_FOR:
            evidence = f"{reading.nan_values} NaN and {reading.inf_values} infinite values so far"
            yield self._firing(alerts.NONFINITE, seen, name, counted[1], evidence)

    def _firing(
        self, alert: HeadAlert | RunAlert, seen: SanctumSnapshot, head: str, since: float, evidence: str
    ) -> Firing:
        summary = alert.summary.format(head=printable(head))
        return Firing(alert.name, alert.severity, seen.run.run_id, head, since, summary, evidence, self._source)


def _controlled(control: Control, spent: bool | None) -> bool:
    """Whether an alert may fire, as far as the controller of its head goes; ``spent`` None: it has none."""
    if control is Control.SPENT:
        return spent is True
    return control is Control.NOTHING or spent is not False


def _nonfinite(reading: HeadReading) -> int:
    return reading.nan_values + reading.inf_values


def _risen(before: int, now: int) -> bool:
    """Whether a counter has counted; one that is lower than before has started anew."""
    return now > before or 0 < now < before


def _stalled_since(snapshot: SanctumSnapshot, now: float) -> float | None:
    """Time of the last update, or of the start, of a run that has stalled; None for any other."""
    last = snapshot.last_update_timestamp
    begun = snapshot.start_timestamp if last is None else last
    if now - begun <= alerts.STALLED_AFTER:
        return None
    usual = _usual_seconds(snapshot)
    return begun if usual is None or now - begun > alerts.STALLED_UPDATES * usual else None


def _usual_seconds(snapshot: SanctumSnapshot) -> float | None:
    """Mean seconds of rollout and update together; without durations, between two updates."""
    rollout, update = _mean(snapshot.rollout_durations), _mean(snapshot.update_durations)
    if rollout is not None and update is not None:
        return rollout + update
    last, count = snapshot.last_update_timestamp, snapshot.tamiyo.updates - snapshot.resumed_updates
    return (last - snapshot.start_timestamp) / count if last is not None and count else None


def _mean(histogram: Histogram) -> float | None:
    count = sum(histogram.counts)
    return histogram.sum / count if count else None


def _evidence(seen: SanctumSnapshot, name: str, condition: Condition) -> str:
    """What shows the condition, in words, as the panel and the JSON document say it."""
    found = head_findings(seen.tamiyo.heads.named(name), seen.tamiyo.readings[name])
    words = [finding.text for finding in found if finding.word == condition.value] or [
        finding.text for finding in found
    ]
    return words[0] if words else ""


def _updates(seen: SanctumSnapshot) -> str:
    count = seen.tamiyo.updates
    return f"{count} update{'' if count == 1 else 's'}"
