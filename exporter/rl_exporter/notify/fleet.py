"""Judges several runs at once: one that goes on at another address is not lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rl_exporter.notify.alerts import Firing
from rl_exporter.notify.judge import RunJudge
from rl_exporter.snapshot import RunState, SanctumSnapshot


class Answer(NamedTuple):
    """What a run answered, None where it did not, and how many seconds its clock is ahead of ours."""

    snapshot: SanctumSnapshot | None
    clock_offset: float = 0.0
    scope: tuple[str, str] = ("", "")
    """Cluster and namespace that list the run. A run of the same name in another scope is another run."""


class FleetJudge:
    """Judges the runs at several addresses. Not thread-safe."""

    def __init__(self) -> None:
        self._judges: dict[str, RunJudge] = {}
        self._offsets: dict[str, float] = {}

    def look(self, answers: Mapping[str, Answer], now: float) -> list[Firing]:
        """What fires after a look at every address that is listed, at Unix time ``now`` of our clock."""
        for source, answer in answers.items():
            judge = self._judges.setdefault(source, RunJudge(source))
            judge.scope = answer.scope
            if answer.snapshot is None:
                judge.silent(now + self._offsets.get(source, 0.0))
            else:
                self._offsets[source] = answer.clock_offset
                judge.answered(answer.snapshot, now + answer.clock_offset)
        times = {source: now + self._offsets.get(source, 0.0) for source in self._judges}
        for source in self._judges.keys() - answers.keys():
            self._judges[source].gone(times[source])
        self._forget_those_elsewhere()
        firing = [one for source, judge in self._judges.items() for one in judge.firing(times[source])]
        for source in [source for source, judge in self._judges.items() if judge.over(times[source])]:
            del self._judges[source]
            self._offsets.pop(source, None)
        return firing

    def _forget_those_elsewhere(self) -> None:
        for judge in self._judges.values():
            if judge.lost() and any(_goes_on(judge, other) for other in self._judges.values()):
                judge.forget()


def _goes_on(judge: RunJudge, other: RunJudge) -> bool:
    """Whether a lost run was seen elsewhere: the same process under another address, or a later one."""
    lost, seen = judge.seen, other.seen
    if lost is None or seen is None or other.lost():
        return False
    if (seen.run.run_id, other.scope) != (lost.run.run_id, judge.scope):
        return False
    ours, theirs = _last_sign(lost), _last_sign(seen)
    if seen.start_timestamp == lost.start_timestamp:
        return theirs >= ours
    running = seen.run_state is RunState.RUNNING
    return seen.start_timestamp > (lost.start_timestamp if running else ours)


def _last_sign(snapshot: SanctumSnapshot) -> float:
    last = snapshot.last_update_timestamp
    return snapshot.start_timestamp if last is None else last
