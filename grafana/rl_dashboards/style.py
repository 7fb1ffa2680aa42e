"""Colours, words and symbols, from the exporter's own thresholds.

A colour always comes with a word or symbol, for people who cannot tell the colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.queries import HEAD_STATE_CODES, NO_CHOICE_CODE, NO_LEVEL_CODE, RunPhase
from rl_exporter.health import (
    CRITICAL_THRESHOLD,
    EXPLODING_ABOVE,
    VANISHING_BELOW,
    WARNING_THRESHOLD,
    HeadState,
    Level,
)

GREEN, YELLOW, RED, DIM, BLUE = "green", "yellow", "red", "#7b8087", "blue"
TRANSPARENT = "transparent"

LEVELS = {
    Level.HEALTHY: ("● healthy", GREEN),
    Level.WARNING: ("◆ warning", YELLOW),
    Level.CRITICAL: ("▲ critical", RED),
}
"""Word and colour of each level, in the order of the numbers 0, 1, 2 that the recording rule gives."""

STATES = {
    HeadState.HEALTHY: ("● healthy", GREEN),
    HeadState.UNSETTLED: ("• unsettled", DIM),
    HeadState.CONFUSED: ("◐ confused", YELLOW),
    HeadState.DETERMINISTIC: ("◆ deterministic", YELLOW),
    HeadState.DEAD: ("⬤ dead", RED),
    HeadState.EXPLODING: ("▲ exploding", RED),
}
NO_CHOICE = ("◇ no choice", DIM)

PHASES = {
    RunPhase.RUNNING: ("▶ running", GREEN),
    RunPhase.COMPLETED: ("■ completed", BLUE),
    RunPhase.INTERRUPTED: ("■ interrupted", BLUE),
    RunPhase.FAILED: ("✖ failed", RED),
    RunPhase.LOST: ("? lost", RED),
    RunPhase.STALLED: ("‖ stalled", YELLOW),
}


def value_mapping(words: Mapping[Any, tuple[str, str]]) -> model.ValueMap:
    """A value mapping from numbers or texts to words and colours."""
    return model.ValueMap(
        options={
            str(number): model.ValueMappingResult(text=text, color=colour, index=index)
            for index, (number, (text, colour)) in enumerate(words.items())
        }
    )


LEVEL_MAPPING = value_mapping({**dict(enumerate(LEVELS.values())), NO_LEVEL_CODE: NO_CHOICE})


def null_mapping(text: str, colour: str = DIM) -> model.SpecialValueMap:
    """The text to show where there is no value."""
    result = model.ValueMappingResult(text=text, color=colour)
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(match=model.SpecialValueMatch.NULL, result=result)
    )


ABSENT_MAPPING = null_mapping("-", TRANSPARENT)
"""For empty table cells: a run without a head of that name, a target that is down."""

STATE_MAPPING = value_mapping(
    {HEAD_STATE_CODES[state]: look for state, look in STATES.items()} | {NO_CHOICE_CODE: NO_CHOICE}
)
PHASE_MAPPING = value_mapping({int(status): look for status, look in PHASES.items()})
NO_CHOICE_MAPPING = value_mapping({-1: NO_CHOICE})
NOTHING_YET_MAPPING = value_mapping({-1: ("not measured yet", DIM)})


def verdict_mapping() -> model.ValueMap:
    """Map the numbers of :func:`rl_dashboards.queries.verdicts` to a symbol, a word and a colour.

    Symbol and colour come from the level, the word from the state: a tile has room for one word. The word is
    that of the level if the state says less. A dead or exploding head is red whatever its level.
    """
    words: dict[int, tuple[str, str]] = {NO_CHOICE_CODE: NO_CHOICE}
    for state, code in HEAD_STATE_CODES.items():
        words[code] = (STATES[state][0], STATES[state][1])
    for number, (level, (word, colour)) in enumerate(LEVELS.items(), start=1):
        for state, code in HEAD_STATE_CODES.items():
            alarming = STATES[state][1] == RED
            symbol = LEVELS[Level.CRITICAL][0][0] if alarming else word[0]
            says_less = state is HeadState.UNSETTLED and level is not Level.HEALTHY
            words[10 * number + code] = (
                word if says_less else f"{symbol} {state}",
                RED if alarming else colour,
            )
    return value_mapping(words)


def thresholds(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    """Absolute thresholds. Grafana compares with ``>=``: a value equal to a step gets the step's colour."""
    built = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(built)


def level_bands() -> ThresholdsConfig:
    """The two thresholds as bands behind lines. Not exact at the boundary, which nobody can see there."""
    return thresholds((None, RED), (CRITICAL_THRESHOLD, YELLOW), (WARNING_THRESHOLD, TRANSPARENT))


def level_thresholds() -> ThresholdsConfig:
    """The level of a ratio as a colour, exact: a ratio equal to a threshold has the worse level.

    Grafana compares with ``>=``, so each step starts at the next float above the threshold.
    """
    return thresholds(
        (None, RED),
        (math.nextafter(CRITICAL_THRESHOLD, 1), YELLOW),
        (math.nextafter(WARNING_THRESHOLD, 1), GREEN),
    )


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


def colour_by_series() -> FieldColor:
    """One palette colour for each series, in their order."""
    return FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
