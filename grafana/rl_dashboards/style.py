"""How things look: colours, words and symbols, always together, from the exporter's own thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.queries import HEAD_STATE_CODES, NO_CHOICE_CODE, NO_LEVEL_CODE, Status
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
"""Word and colour of each level, in the order of the recorded numbers 0, 1, 2."""

STATES = {
    HeadState.HEALTHY: ("● healthy", GREEN),
    HeadState.UNSETTLED: ("• unsettled", DIM),
    HeadState.CONFUSED: ("◐ confused", YELLOW),
    HeadState.DETERMINISTIC: ("◆ deterministic", YELLOW),
    HeadState.DEAD: ("⬤ dead", RED),
    HeadState.EXPLODING: ("▲ exploding", RED),
}
NO_CHOICE = ("◇ no choice", DIM)

STATUSES = {
    Status.RUNNING: ("▶ running", GREEN),
    Status.COMPLETED: ("■ completed", BLUE),
    Status.INTERRUPTED: ("■ interrupted", BLUE),
    Status.FAILED: ("✖ failed", RED),
    Status.LOST: ("? lost", RED),
    Status.STALLED: ("‖ stalled", YELLOW),
}


def mapping(words: Mapping[Any, tuple[str, str]]) -> model.ValueMap:
    """A value mapping from numbers, or texts, to words and colours."""
    return model.ValueMap(
        options={
            str(number): model.ValueMappingResult(text=text, color=colour, index=index)
            for index, (number, (text, colour)) in enumerate(words.items())
        }
    )


LEVEL_MAPPING = mapping({**dict(enumerate(LEVELS.values())), NO_LEVEL_CODE: NO_CHOICE})


def nothing(text: str, colour: str = DIM) -> model.SpecialValueMap:
    """What stands where there is no value."""
    result = model.ValueMappingResult(text=text, color=colour)
    return model.SpecialValueMap(
        options=model.DashboardSpecialValueMapOptions(match=model.SpecialValueMatch.NULL, result=result)
    )


ABSENT_MAPPING = nothing("-", TRANSPARENT)
"""For a cell of a table to which nothing belongs: a run without a head of that name, a target that is down."""

STATE_MAPPING = mapping(
    {HEAD_STATE_CODES[state]: look for state, look in STATES.items()} | {NO_CHOICE_CODE: NO_CHOICE}
)
STATUS_MAPPING = mapping({int(status): look for status, look in STATUSES.items()})
NO_CHOICE_MAPPING = mapping({-1: NO_CHOICE})
NOTHING_YET_MAPPING = mapping({-1: ("not measured yet", DIM)})


def verdict_mapping() -> model.ValueMap:
    """A symbol and colour for the level, a word for the state, as :func:`source.queries.verdicts` numbers them.

    One word, so that it fits a tile in the same size whatever it says. Where the state says less than the
    level, the level's word; a state that is an alarm of its own is shown as one, whatever the level.
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
    return mapping(words)


def thresholds(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    """Absolute thresholds; Grafana gives a value at a step the step's colour (``>=``)."""
    built = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(built)


def bands() -> ThresholdsConfig:
    """The two thresholds as bands behind lines, where which side the boundary is on cannot be seen."""
    return thresholds((None, RED), (CRITICAL_THRESHOLD, YELLOW), (WARNING_THRESHOLD, TRANSPARENT))


def levels() -> ThresholdsConfig:
    """The level of a ratio as a colour, exactly: a ratio at a threshold is on the worse side.

    Grafana compares with ``>=``, so a step begins at the next number above the threshold.
    """
    return thresholds(
        (None, RED),
        (math.nextafter(CRITICAL_THRESHOLD, 1), YELLOW),
        (math.nextafter(WARNING_THRESHOLD, 1), GREEN),
    )


def gradient_bands() -> ThresholdsConfig:
    """Gradient norms: what teaches nothing, what is in order, what explodes."""
    return thresholds((None, YELLOW), (VANISHING_BELOW, TRANSPARENT), (EXPLODING_ABOVE, RED))


def plain(colour: str = "text") -> ThresholdsConfig:
    """No verdict: one colour for every value."""
    return thresholds((None, colour))


def bad_above(limit: float, colour: str = RED) -> ThresholdsConfig:
    """Good below a limit, bad from it on."""
    return thresholds((None, GREEN), (limit, colour))


def fixed(colour: str) -> FieldColor:
    """One colour, whatever the value."""
    return FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(colour)


def by_threshold() -> FieldColor:
    """The colour of the threshold that a value has reached."""
    return FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def by_series() -> FieldColor:
    """A colour per series, in their order."""
    return FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
