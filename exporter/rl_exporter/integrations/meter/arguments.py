"""The numbers of a meter as arguments of ``HeadRecorder.record``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_exporter.integrations.meter.meter_result import MeterResult
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import NONFINITE_COUNTS

_ARGUMENTS = {number.name: number.row.argument or number.name for number in attributes(HeadNumbers)}


def record_arguments(found: MeterResult, names: Sequence[str]) -> dict[str, Any]:
    """One mapping of heads to numbers for each argument; a head that was not measured is in none."""
    measured = {name: found.measurement(name) for name in names}
    given: dict[str, Any] = {}
    for attribute, argument in {**_ARGUMENTS, "action_shares": "action_shares"}.items():
        values = {name: getattr(one, attribute) for name, one in measured.items()}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            given[argument] = known
    for kind in NONFINITE_COUNTS:
        counted = {name: getattr(one, kind) for name, one in measured.items() if getattr(one, kind)}
        if counted:
            given[kind] = counted
    if found.clipped_share is not None:
        given["clipped_share"] = found.clipped_share
    return given
