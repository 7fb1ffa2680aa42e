"""Colours, words and symbols, from the exporter's own thresholds.

A colour always comes with a word or symbol, for people who cannot tell the colours apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.missing import NO_CHOICE_RATIO, Missing
from rl_dashboards.queries import (
    HEAD_STATE_CODES,
    LEVEL_CODES,
    NO_CHOICE_CODE,
    RunPhase,
)
from rl_dashboards.verdict_queries import ENDED, Verdict
from rl_exporter.health import EXPLODING_ABOVE, VANISHING_BELOW, HeadState, Level

GREEN, YELLOW, RED, DIM, BLUE = "green", "yellow", "red", "#7b8087", "blue"
TRANSPARENT = "transparent"

LEVELS = {
    Level.HEALTHY: ("● healthy", GREEN),
    Level.WARNING: ("◆ warning", YELLOW),
    Level.CRITICAL: ("▲ critical", RED),
}
"""Word and colour of each level."""

LEVEL_COLOURS = {level: colour for level, (_, colour) in LEVELS.items()}

VERDICTS = {
    Verdict.HEALTHY: ("● healthy", GREEN),
    Verdict.SETTLED: ("■ settled", BLUE),
    Verdict.NO_CHOICE: ("◇ no choice", DIM),
    Verdict.STARVED: ("▽ starved", YELLOW),
    Verdict.LOW: ("◆ low", YELLOW),
    Verdict.COLLAPSED: ("▲ collapsed", RED),
    Verdict.DEAD: ("✖ dead", RED),
    Verdict.EXPLODING: ("✱ exploding", RED),
}
"""Symbol, word and colour of each verdict. A settled head decides by the state, which is no failure."""

STATES = {
    HeadState.HEALTHY: "● healthy",
    HeadState.UNSETTLED: "• unsettled",
    HeadState.CONFUSED: "◐ confused",
    HeadState.DETERMINISTIC: "◈ deterministic",
    HeadState.DEAD: "✖ dead",
    HeadState.EXPLODING: "✱ exploding",
}
"""Symbol and word of each state. The colour beside it is that of the verdict."""

NO_CHOICE = VERDICTS[Verdict.NO_CHOICE]

PHASES = {
    RunPhase.RUNNING: ("▶ running", GREEN),
    RunPhase.STALLED: ("‖ stalled", YELLOW),
    RunPhase.COMPLETED: ("■ completed", BLUE),
    RunPhase.INTERRUPTED: ("■ interrupted", BLUE),
    RunPhase.FAILED: ("✖ failed", RED),
    RunPhase.LOST: ("? lost", RED),
}


def symbol(look: tuple[str, str]) -> tuple[str, str]:
    """The symbol of a look alone, where a word has no room."""
    return look[0].split()[0], look[1]


def of_the_past(look: tuple[str, str]) -> tuple[str, str]:
    """The look of a verdict of a run that is over. What was healthy then says nothing about now."""
    return look[0], DIM if look[1] == GREEN else look[1]


def value_mapping(words: Mapping[Any, tuple[str, str]]) -> model.ValueMap:
    """A value mapping from numbers or texts to words and colours."""
    return model.ValueMap(
        options={
            str(number): model.ValueMappingResult(text=text, color=colour, index=index)
            for index, (number, (text, colour)) in enumerate(words.items())
        }
    )


LEVEL_MAPPING = value_mapping({LEVEL_CODES[level]: look for level, look in LEVELS.items()})
VERDICT_MAPPING = value_mapping({int(verdict): look for verdict, look in VERDICTS.items()})
MISSING_MAPPING = value_mapping({int(reason): (reason.words, DIM) for reason in Missing})
"""For numbers that may be missing: what is missing, in words."""


def null_mapping(text: str, colour: str = DIM) -> model.SpecialValueMap:
    """The text to show where there is no value."""
    result = model.ValueMappingResult(text=text, color=colour)
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(match=model.SpecialValueMatch.NULL, result=result)
    )


ABSENT_MAPPING = null_mapping("-", TRANSPARENT)
"""For empty table cells: a run without a head of that name, a target that is down."""

STATE_MAPPING = value_mapping(
    {HEAD_STATE_CODES[state]: (word, TRANSPARENT) for state, word in STATES.items()}
    | {NO_CHOICE_CODE: (NO_CHOICE[0], TRANSPARENT)}
)
"""Words of states where the verdict, with its colour, stands beside them."""

PHASE_MAPPING = value_mapping({int(status): look for status, look in PHASES.items()})
RATIO_MAPPING = value_mapping(
    {NO_CHOICE_RATIO: NO_CHOICE} | {int(reason): (reason.words, DIM) for reason in Missing}
)
NOTHING_YET_MAPPING = value_mapping({-1: ("not measured yet", DIM)})

WHEN_IT_ENDED = ", when it ended"
"""Behind the word of a verdict on a run that is over."""


def cell_mapping() -> model.ValueMap:
    """Map the words of verdicts to their symbols: a cell has room for one, and shows the word on hover."""
    now = {look[0]: symbol(look) for look in VERDICTS.values()}
    past = {f"{look[0]}{WHEN_IT_ENDED}": symbol(of_the_past(look)) for look in VERDICTS.values()}
    return value_mapping(now | past)


def tile_mapping() -> model.ValueMap:
    """Map verdict and state in one number to a symbol, a word and a colour.

    The colour is the verdict's. There is room for one word: that of a verdict other than healthy, else that of
    the state, which may still be an alarming one because a verdict takes three updates.
    """
    words: dict[int, tuple[str, str]] = {}
    for code, word in _words_by_code().items():
        words[code] = (word, YELLOW if word in ALARMING else DIM)
        for verdict, look in VERDICTS.items():
            shown = look if verdict is not Verdict.HEALTHY else _healthy_look(word)
            words[10 * (1 + verdict) + code] = shown
    return value_mapping(words | {ENDED + code: of_the_past(look) for code, look in words.items()})


ALARMING = {STATES[HeadState.DEAD], STATES[HeadState.EXPLODING]}


def _words_by_code() -> dict[int, str]:
    return {HEAD_STATE_CODES[state]: word for state, word in STATES.items()} | {NO_CHOICE_CODE: NO_CHOICE[0]}


def _healthy_look(word: str) -> tuple[str, str]:
    if word in ALARMING:
        return word, YELLOW
    # A deterministic head without a verdict was not so for three updates, or its thresholds are switched off.
    return word, DIM if word in {STATES[HeadState.DETERMINISTIC], NO_CHOICE[0]} else GREEN


def ages() -> list[model.RangeMap]:
    """The age of what must be young, in words: a colour alone would not do, and a number needs no symbol then."""
    looks = (
        (0, 60, "● under a minute ago", GREEN),
        (60, 300, "◆ over a minute ago", YELLOW),
        (300, None, "✖ over five minutes ago", RED),
    )
    return [
        model.RangeMap(
            options=model.DashboardRangeMapOptions(
                from_val=start, to=end, result=model.ValueMappingResult(text=text, color=colour)
            )
        )
        for start, end, text, colour in looks
    ]


def thresholds(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    """Absolute thresholds. Grafana compares with ``>=``: a value equal to a step gets the step's colour."""
    built = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(built)


def gradient_bands() -> ThresholdsConfig:
    """Bands of gradient norms: vanishing, in order, exploding."""
    return thresholds((None, YELLOW), (VANISHING_BELOW, TRANSPARENT), (EXPLODING_ABOVE, RED))


def single_colour(colour: str = "text") -> ThresholdsConfig:
    """One colour for every value: no verdict."""
    return thresholds((None, colour))


def bad_above(limit: float, colour: str = RED) -> ThresholdsConfig:
    """Green below ``limit``, ``colour`` from it on."""
    return thresholds((None, GREEN), (limit, colour))


def fixed_colour(colour: str) -> FieldColor:
    """One colour, whatever the value."""
    return FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(colour)


def colour_by_threshold() -> FieldColor:
    """The colour of the threshold step that a value has reached."""
    return FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def colour_by_name() -> FieldColor:
    """One palette colour for each series, the same wherever its name occurs."""
    return FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME)


HEAD_COLOURS = ("#5794F2", "#B877D9", "#FF9830", "#37B5B6", "#8F5A3C", "#A0A4AB", "#1F60C4", "#E0A3D4")
"""Colours of lines of the trainer's heads: none of them means good or bad."""


def colour_by_series() -> FieldColor:
    """One palette colour for each series, in their order."""
    return FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
