"""The simulated runs of the rule tests, played by the exporter itself and judged by its own judge."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, RunState, SanctumAggregator
from rl_exporter.discovery.file_sd import scope_of
from rl_exporter.notify.fleet import Answer, FleetJudge
from tests.alerts.rule_cases.case import Case
from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS, Declared, Measured, Run


def measurement(measured: Measured, choices: int) -> HeadMeasurement:
    """What an update of a simulated run measured, as a payload holds it."""
    return HeadMeasurement(
        entropy=None if measured.normalized is None else measured.normalized * math.log(choices),
        choice_entropy=measured.choice,
        choice_share=measured.share,
        open_share=measured.open,
        gradient_norm=measured.g,
        nan_steps=measured.nans,
        state_information=measured.information,
        action_shares=tuple(share for _, share in measured.shares) or None,
        state_information_ratio=measured.explained,
        advantage_margin_t=measured.margin_t,
        controller_saturated=measured.saturated,
    )


class PlayedRun:
    """A simulated run whose updates the aggregator counts."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._now = run.start
        self._updates = 0
        self._errors = 0
        self._scope = scope_of(run.labels)
        heads = [self._head(name, choices) for name, choices in run.choices.items()]
        self._aggregator = SanctumAggregator(Heads(heads), RunInfo(run.run_id), clock=lambda: self._now)

    def _head(self, name: str, choices: int) -> Head:
        declared = self.run.declared.get(name, Declared())
        return Head(name, choices, warning=declared.warning, critical=declared.critical,
                    reference=declared.reference or "maximum")  # fmt: skip

    def listed(self, now: float) -> bool:
        return self.run.start <= now < self.run.removed

    def answer(self, now: float) -> Answer:
        run = self.run
        if now >= run.gone or now in run.failed_scrapes:
            return Answer(None, scope=self._scope)
        while run.update_time(self._updates + 1) <= min(now, run.last_update, run.end[0]):
            self._updates += 1
            self._now = run.update_time(self._updates)
            self._aggregator.handle_ppo_update(self._payload())
        if now >= run.end[0]:
            self._aggregator.set_run_state(RunState(run.end[1]))
        while self._errors < run.record_errors(now):
            self._errors += 1
            self._aggregator.count_record_error()
        return Answer(self._aggregator.snapshot(), scope=self._scope)

    def _payload(self) -> PPOUpdatePayload:
        run = self.run
        measured = run.policy(self._updates)
        spent = (0.75 * run.period, 0.25 * run.period) if run.durations else (None, None)
        return PPOUpdatePayload(
            heads={name: measurement(measured[name], choices) for name, choices in run.choices.items()},
            rollout_duration=spent[0],
            update_duration=spent[1],
        )


class Look(NamedTuple):
    """What fired at a time: (alert, run_id, head)."""

    at: float
    firing: frozenset[tuple[str, str, str]]


def judged(case: Case) -> Iterator[Look]:
    """Look at the runs of a case as often as the rule tests scrape. The younger of two at one address answers."""
    runs = sorted(map(PlayedRun, case.runs), key=lambda played: played.run.start)
    judge = FleetJudge()
    for now in range(0, int(case.seconds) + 1, SCRAPE_SECONDS):
        answers = {played.run.instance: played.answer(now) for played in runs if played.listed(now)}
        firing = judge.look(answers, now)
        yield Look(now, frozenset((one.name, one.run_id, one.head) for one in firing))
