"""What stands out in a run, in words: what somebody on call needs to decide what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rl_exporter.heads import Head
from rl_exporter.health import HeadState, Level, level
from rl_exporter.snapshot import HeadReading, SanctumSnapshot
from rl_exporter.view.cells import Tone, nats, number, printable, share
from rl_exporter.view.verdict import weakest

CLEAR_T = 2.0
"""An advantage margin whose t lies further from 0 is no coincidence."""


class Finding(NamedTuple):
    """One fact to know about a run: a word, the head it concerns (empty: the run), and the numbers."""

    word: str
    tone: Tone
    head: str
    text: str


_WORDS = ("exploding", "dead", "collapsed", "errors", "low", "starved", "settled", "diluted")
"""Worst first."""


def findings(snapshot: SanctumSnapshot) -> tuple[Finding, ...]:
    """List what stands out, worst first. Names the low heads, and those that look collapsed but are not."""
    tamiyo = snapshot.tamiyo
    found = [finding for head in tamiyo.heads for finding in head_findings(head, tamiyo.readings[head.name])]
    if snapshot.record_errors:
        fields = ", ".join(printable(field) for field, _ in snapshot.dropped)
        which = f" (impossible: {fields})" if fields else ""
        text = f"telemetry failed {_times(snapshot.record_errors)}: values may be missing or old{which}"
        found.append(Finding("errors", Tone.WARNING, "", text))
    if found:
        return tuple(sorted(found, key=_badness))
    low = weakest(snapshot)
    if low is None:
        return ()
    text = f"every head; the weakest is {printable(low[0])}, {number(low[1])}"
    return (Finding("healthy", Tone.HEALTHY, "", text),)


def head_findings(head: Head, reading: HeadReading) -> tuple[Finding, ...]:
    """List what stands out in one head, worst first; empty for a healthy one, and for one without numbers."""
    found = (
        Finding(word, tone, printable(head.name), text) for word, tone, text in _head_findings(head, reading)
    )
    return tuple(sorted(found, key=_badness))


def _badness(finding: Finding) -> int:
    return _WORDS.index(finding.word)


def _head_findings(head: Head, reading: HeadReading) -> Iterator[tuple[str, Tone, str]]:
    if reading.state is HeadState.EXPLODING:
        text = f"gradient norm {number(reading.gradient_norm)} {_updates(reading.state_streak)}"
        yield "exploding", Tone.CRITICAL, text
    yield from _low_entropy(head, reading)
    if reading.open_share and reading.choice_share == 0:
        text = f"open at {share(reading.open_share)} of the steps, consulted at none"
        yield "starved", Tone.WARNING, text
    if _diluted(reading):
        text = f"{number(reading.normalized)} over all steps, {number(reading.choice_entropy)} where it decides"
        yield "diluted", Tone.PLAIN, text


def _low_entropy(head: Head, reading: HeadReading) -> Iterator[tuple[str, Tone, str]]:
    if reading.state is HeadState.DEAD:
        gone = f"gradient norm {number(reading.gradient_norm)}: nothing pulls it back"
        yield "dead", Tone.CRITICAL, f"{_evidence(head, reading, reading.state_streak)}; {gone}"
    elif reading.level is Level.CRITICAL and reading.blind:
        yield "collapsed", Tone.CRITICAL, _evidence(head, reading, reading.critical_streak)
    elif reading.level is Level.WARNING and reading.blind:
        yield "low", Tone.WARNING, _evidence(head, reading, reading.warning_streak)
    elif reading.settled:
        yield "settled", Tone.PLAIN, _evidence(head, reading, reading.critical_streak)


def _evidence(head: Head, reading: HeadReading, streak: int | None) -> str:
    """How low since when; then what the head does, whether it looks at the state, and what it is paid for."""
    low = f"{_measure(reading)} {number(reading.effective)} {_updates(streak)}".rstrip()
    told = (
        _leading(head, reading),
        _sight(reading),
        _payment(reading.advantage_margin_t) if reading.blind else "",
        _control(reading),
    )
    return f"{low}: {'; '.join(text for text in told if text)}"


def _measure(reading: HeadReading) -> str:
    if reading.relative:
        return "entropy over its reference"
    return "normalized entropy" if reading.choice_entropy is None else "choice entropy"


def _leading(head: Head, reading: HeadReading) -> str:
    leading = reading.leading_action
    if leading is None:
        return ""
    name = printable(head.action_name(leading)) if head.actions else f"action {leading}"
    return f"{name} at {share(reading.action_shares[leading])} of its decisions"


def _sight(reading: HeadReading) -> str:
    if reading.state_information is None:
        return "not known whether its choices depend on the state"
    what = "nearly the same whatever it sees" if reading.blind else "decides by what it sees"
    explained = reading.state_information_ratio
    of = "" if explained is None else f", {share(explained)} of what is uncertain"
    return f"{what} ({nats(reading.state_information)}{of})"


def _payment(t: float | None) -> str:
    """What the advantages say about the leading action; nothing where there were none to compare."""
    if t is None:
        return ""
    if t > CLEAR_T:
        return f"paid for it: its alternatives did worse, t = {t:.0f}"
    if t < -CLEAR_T:
        return f"not paid for it: its alternatives did better, t = {t:.0f}"
    return f"its alternatives did as well, t = {t:.1f}"


def _control(reading: HeadReading) -> str:
    """That a controller holds the head, and what it has come to; nothing where it only observes."""
    applied, saturated = reading.entropy_coefficient_applied, reading.controller_saturated
    if applied is None or saturated is None:
        return ""
    bound = f", at its bound {_updates(round(saturated))}" if saturated else ""
    return f"under control: coefficient {number(applied)}{bound}"


def _diluted(reading: HeadReading) -> bool:
    if reading.choice_entropy is None or reading.relative:
        return False
    low = level(reading.normalized, reading.thresholds) is Level.CRITICAL
    return low and reading.level in {Level.HEALTHY, Level.WARNING}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _updates(count: int | None) -> str:
    return f"for {count} update{'' if count == 1 else 's'}" if count else ""
