"""Colours, words and symbols, from the exporter's own thresholds.

A colour always comes with a word or symbol, for people who cannot tell the colours apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.queries import (
    HEAD_STATE_CODES,
    LEVEL_CODES,
    NO_CHOICE_CODE,
    RunPhase,
)
from rl_dashboards.verdict_queries import NO_VERDICT_CODE, Verdict
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
    Verdict.LOW: ("◆ low", YELLOW),
    Verdict.COLLAPSED: ("▲ collapsed", RED),
}
"""Word and colour of each verdict. A settled head decides by the state, which is no failure."""

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


LEVEL_MAPPING = value_mapping({LEVEL_CODES[level]: look for level, look in LEVELS.items()})
VERDICT_MAPPING = value_mapping(
    {int(verdict): look for verdict, look in VERDICTS.items()} | {NO_VERDICT_CODE: NO_CHOICE}
)


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


def tile_mapping() -> model.ValueMap:
    """Map the numbers of :func:`rl_dashboards.verdict_queries.verdicts_and_states` to a symbol, a word and a colour.

    A tile has room for one word: that of an alarming state, else that of a verdict other than healthy, else that
    of the state.
    """
    words: dict[int, tuple[str, str]] = {NO_CHOICE_CODE: NO_CHOICE}
    for state, code in HEAD_STATE_CODES.items():
        words[code] = STATES[state]
        for verdict, look in VERDICTS.items():
            words[10 * (1 + verdict) + code] = _tile_look(state, verdict, look)
    return value_mapping(words)


def _tile_look(state: HeadState, verdict: Verdict, look: tuple[str, str]) -> tuple[str, str]:
    if STATES[state][1] == RED:
        return f"{VERDICTS[Verdict.COLLAPSED][0][0]} {state}", RED
    if verdict is not Verdict.HEALTHY:
        return look
    # A deterministic head without a verdict was not so for three updates, or its thresholds are switched off.
    return STATES[state] if state is HeadState.DETERMINISTIC else (f"{look[0][0]} {state}", look[1])


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


def colour_by_series() -> FieldColor:
    """One palette colour for each series, in their order."""
    return FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
