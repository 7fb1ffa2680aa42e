"""Mutants of the rules: faults that a careless edit could introduce. Each must make some rule test fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from tests.alerts.rule_cases import SUBJECTS, rule_test_file
from tests.alerts.rule_cases.case import Case
from tests.support import ROOT

RULES = (
    "prometheus/rules/entropy.yml",
    "prometheus/rules/runs.yml",
    "alerts/rules/heads.yml",
    "alerts/rules/training.yml",
    "alerts/rules/monitoring.yml",
)

_FAULTS: tuple[tuple[str, str, str], ...] = (
    ("<= becomes <", r"<=", "<"),
    ("the other threshold", r'level="critical"', 'level="warning"'),
    ("critical means warning", r"\b2 \+ 0", "1 + 0"),
    ("warning means critical", r"\b1 \+ 0", "2 + 0"),
    ("a level for few heads", r"\n +or (?:on \([\w, ]+\) )?0 \* head:\S+", ""),
    ("another verdict", r"\b[3-7] \+ 0", "8 + 0"),
    ("a verdict of no head", r" != 2\b", ""),
    ("a ratio of some head", r"min without", "max without"),
    ("a threshold that is off counts", r'(threshold_ratio(?:\{level="\w+"\})?) > 0', r"\1"),
    ("blind is another number", r"1 / (?:50|10)\b", "1 / 2"),
    ("another factor", r"ratio > 2\b", "ratio > 1"),
    ("a reference that is the maximum", r"\((rl_policy_head_entropy_reference_nats) != \w+\)", r"\1"),
    ("a reference that nobody needs", r"\n          and rl_policy_head_entropy_reference_nats", ""),
    ("another level", r"(level) (?:< 2|>= 2)", r"\1 >= 0"),
    ("a dropped for", r"\n        for: \w+", ""),
    ("a dropped hysteresis", r"\[4m30s\]", "[1s]"),
    ("a dropped memory", r"\[(?:1h|15m|10m|6m30s|5m|3m)\]", "[1s]"),
    ("a dropped time to last", r"(>=?) (?:600|60)\b", r"\1 0"),
    ("another condition", r'condition="\w+"', 'condition="warning"'),
    ("one condition less", r'(condition=~"[\w|]*)\|\w+"', r'\1"'),
    ("a dropped NaN guard", r"(\w+_ratio|_nats\)) >= 0\b", r"\1"),
    ("a dropped join on the running state",
     r"\n +and on \([\w, ]+\) (?:run:rl_training_run_state:running|\(last_over_time\(rl_training_run_state)[^\n]*", ""),
    ("any state counts as running", r'(state="running"\}(?:\[\w+\]\))?) == 1', r"\1 >= 0"),
    ("a dropped part", r"\n {10}unless .*(?:\n {12}.*|\n {10}\))*", ""),
    ("another bound", r"(saturated_updates\[10m\]\) (?:<|>=)) 10\b", r"\1 2"),
    ("a controller that has not collapsed",
     r"\n +and on \([\w, ]+, head\)\n +max_over_time\(head:\S+", ""),
    ("a forgotten resume", r" - rl_training_resumed_updates", ""),
    ("a dropped scrape since", r"\n {14}unless on [^\n]*", ""),
    ("any sender counts", r"\n +and on \([\w, ]+\) (?:prometheus|vmalert)_\w+\{[^}]*\}", ""),
    ("any integration counts", r'integration=~"\w+",', ""),
    ("any receiver counts", r',receiver_name=~"[^"]*"', ""),
    ("a dropped scrape state", r"\n +and on \([\w, ]+\) max by \([\w, ]+\) \(up\) == 0", ""),
)  # fmt: skip
"""Name of a fault, regular expression over the text of a rule, and replacement."""


@dataclass(frozen=True)
class Mutant:
    """One fault at one place: ``text`` is the whole changed rule file."""

    file: str
    rule: str
    fault: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.fault}"


def mutants() -> Iterator[Mutant]:
    """Yield every fault at every place where it applies."""
    for file in RULES:
        text = (ROOT / file).read_text()
        for start, end, rule in _rules(text):
            body = text[start:end]
            for fault, pattern, replacement in _FAULTS:
                for i, found in enumerate(re.finditer(pattern, body)):
                    changed = body[: found.start()] + found.expand(replacement) + body[found.end() :]
                    yield Mutant(file, rule, f"{fault} ({i + 1})", text[:start] + changed + text[end:])


def _rules(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the span of each rule's expression and duration, from its name to its labels, without comments."""
    for found in re.finditer(r"- (?:alert|record): (\S+)\n(?:        #[^\n]*\n)*", text):
        end = re.compile(r"\n        labels:|\n\n|\n      #|\Z").search(text, found.end())
        assert end is not None
        yield found.end(), end.start(), found.group(1)


_LEVELS = r"(choice|normalized-only) entropy|thresholds|reference|start is not|vocabulary"
_LOW = (
    r"one update in (1|30) s, phase 1 s|ratio absent.*in (1|600) s|hovering at .*(1|30) s|"
    "completed, still served|collapsed, then|whole pages|between scrapes"
)
_POOLS: tuple[tuple[str, str], ...] = (
    ("effective_entropy:lowest", "verdict of each run"),
    ("effective_entropy:", _LEVELS),
    ("verdict:", "verdict"),
    (
        "condition:sustained",
        r"bad updates, one in (1|600) s|between scrapes|Dead for|2 updates of 600 s|measured|settled, one|"
        r"then starved|starved, one update in 30 s|whole pages|blind, one update in (30|600) s",
    ),
    ("Collapsed|EntropyLow|Dead|ControllerSaturated", "under control|controller"),
    ("Collapsed|EntropyLow", _LOW),
    ("Settled", r"[sS]ettled|seldom|then starved"),
    ("Rising", r"[rR]ising|twice"),
    ("FallingFast", "[fF]alling|ratios are a guess"),
    ("Diluted", "diluted"),
    (
        "Starved",
        r"tarved.* (1|600) s|starved (from|once)|starved, then|slow updates|every third update, one in 1 s",
    ),
    ("Dead", "RLPolicyHeadDead hovering.* 30 s|RLPolicyHeadDead, then"),
    ("Exploding", "Exploding hovering.* 30 s|Exploding, then"),
    ("NonFinite", "NaN counted"),
    ("HeadsMissing", "measured"),
    ("run_state:running", r"HeadCollapsed at 120|completed, still served"),
    ("[sS]talled", "stalled(?!, then completed, 600)|no first update"),
    ("Failed", "failed, "),
    (
        "TargetDown|:(down|replaced|continued)",
        "killed, entry left.*(30 s|hours)|^metric_relabel_configs: healthy, then|back to say|younger run|restarted run|down for|one process"
        "|down, another|elsewhere|replica is cut off",
    ),
    (
        "Vanished|:(vanished|replaced|continued)",
        "half an hour later|killed, target removed.*(30 s|more)|killed, entry left.* 30 s|^metric_relabel_configs: healthy, then|back to say|younger run|rescheduled|vanished|one process"
        "|a lost pod|another address|a replica is cut off",
    ),
    ("NeverUp|:never", "never answers"),
    ("RecordErrors", "telemetry error"),
    ("RuleFailures", "monitoring"),
)
"""Which tests must find the faults of which rule: patterns of rule names and of case names.

Running every test for every mutant would take hours.
"""


def candidate_tests(mutant: Mutant) -> dict[str, str]:
    """Test files by case, one of which must find the fault. Each loads only the rules that it needs."""
    found = [names for rules, names in _POOLS if re.search(rules, mutant.rule)]
    names = "|".join([*found, f"^{mutant.rule} at 120 s"])
    return {name: _test_file(name, _loaded(mutant)) for name in _cases() if re.search(names, name)}


def together(finders: Iterable[tuple[Mutant, str]]) -> list[str]:
    """The cases that found these mutants in few test files, which load the rules that the mutants are in."""
    names: dict[tuple[str, ...], set[str]] = {}
    for mutant, name in finders:
        names.setdefault(_loaded(mutant), set()).add(name)
    return [rule_test_file([_cases()[name] for name in sorted(some)], rules) for rules, some in names.items()]


def _loaded(mutant: Mutant) -> tuple[str, ...]:
    return _ALONE.get(mutant.file, ("entropy", "heads"))


_ALONE = {
    "prometheus/rules/runs.yml": ("runs", "training"),
    "alerts/rules/training.yml": ("runs", "training"),
    "alerts/rules/monitoring.yml": ("monitoring",),
}


@cache
def _cases() -> dict[str, Case]:
    """Every case by name, the short ones first, because they find most faults."""
    every = sorted((case for cases in SUBJECTS.values() for case in cases()), key=lambda case: case.seconds)
    return {case.name: case for case in every}


@cache
def _test_file(name: str, rules: tuple[str, ...]) -> str:
    return rule_test_file([_cases()[name]], rules)
