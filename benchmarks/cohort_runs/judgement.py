"""What a rule did in a run, against what the run's recipe says should have happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from benchmarks.cohort_runs.log import RunLog
from benchmarks.cohort_runs.recipe import Label, Recipe
from benchmarks.cohort_runs.replay import ALL_HEADS, PERIODS, Fired, Rule, replay


@dataclass(frozen=True)
class Result:
    """One run of the cohort, and what each rule did in it."""

    recipe: Recipe
    seed: int
    log: RunLog

    @property
    def of_its_kind(self) -> bool:
        """Whether the run ended with a return that its recipe allows."""
        least, most = self.recipe.returns
        final = self.log.updates[-1].episode_return
        return final is not None and least <= final <= most

    @cached_property
    def fired(self) -> Mapping[float, Fired]:
        """By update period, what fired and when."""
        return {period: replay(self.log, period) for period in PERIODS}

    def pages(self, rule: Rule, period: float) -> Mapping[str, int]:
        """The heads that a rule paged for, and the update of each page."""
        return {head: update for (by, head), update in self.fired[period].items() if by is rule}

    def right(self, rule: Rule, period: float) -> int | None:
        """The update of the first page that had to come; None where there is none."""
        if not self.recipe.label.has_to_page:
            return None
        pages = self.pages(rule, period)
        expected = {*self.recipe.heads, ALL_HEADS} if self.recipe.heads else pages.keys()
        return min((update for head, update in pages.items() if head in expected), default=None)

    def false(self, rule: Rule, period: float) -> tuple[str, ...]:
        """The heads for which a page was false."""
        pages = self.pages(rule, period)
        if self.recipe.label in {Label.LEARNED, Label.HARMLESS}:
            return tuple(pages)
        if self.recipe.label is Label.COLLAPSED and self.recipe.spared:
            return tuple(head for head in pages if head not in {*self.recipe.heads, ALL_HEADS})
        return ()


@dataclass(frozen=True, slots=True)
class Score:
    """A rule over many runs at one update period."""

    collapses: int
    recalled: int
    false_pages: int
    falsely_paged_runs: int
    median_updates: float | None


def score(results: Iterable[Result], rule: Rule, period: float) -> Score:
    """How a rule did."""
    every = tuple(results)
    collapses = tuple(result for result in every if result.recipe.label.has_to_page)
    updates = [update for result in collapses if (update := result.right(rule, period)) is not None]
    false = [len(result.false(rule, period)) for result in every]
    return Score(
        len(collapses), len(updates), sum(false), sum(map(bool, false)), median(updates) if updates else None
    )


def by_kind(results: Sequence[Result]) -> Mapping[str, tuple[Result, ...]]:
    """The runs of each kind, in the order of the kinds."""
    names = dict.fromkeys(result.recipe.name for result in results)
    return {name: tuple(result for result in results if result.recipe.name == name) for name in names}
