"""What environments report: numbers under keys in the notation of Prometheus, checked before they are kept."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from rl_exporter.heads import require_label_value
from rl_exporter.library_numbers import number, shown

PREFIX = "rl_environment_"
"""How the name of an exported metric begins; what follows is the environment's."""

MOST_SERIES = 48
"""Series of one run. More would crowd the heads out of a scrape; a map or a seed as a label has no end."""

_MOST_PROBLEMS = 20
"""Keys of which the log says why they are left out."""

_LONGEST_KEY = 200
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_KEY = re.compile(r"(?P<name>[^{]*)(?:\{(?P<labels>.*)\})?", re.DOTALL)
_LABEL = re.compile(r'(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>[^"\\\n]+)"(?:,|$)')
_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
_RESERVED = frozenset({"run_id", "job", "instance", "cluster", "namespace", "le", "quantile"})


class Series(NamedTuple):
    """A metric's name without ``PREFIX``, and its labels beside ``run_id``, in the order of their names."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """How an environment writes it: ``accuracy_ratio``, or ``modules_ratio{slot="a"}``."""
        labels = ",".join(f'{label}="{value}"' for label, value in self.labels)
        return f"{self.name}{{{labels}}}" if labels else self.name


class EnvironmentNumber(NamedTuple):
    """A series and its value."""

    series: Series
    value: float


class Reading(NamedTuple):
    """What an environment reported, and how many numbers of it are left out."""

    numbers: dict[str, float]
    """By key, with sorted labels."""
    left_out: int


@lru_cache(maxsize=16 * MOST_SERIES)
def series_of(key: str) -> Series:
    """The series that a key names. Raises ValueError with the reason and the remedy."""
    if len(key) > _LONGEST_KEY:
        raise ValueError(f"its key has {len(key)} characters; use at most {_LONGEST_KEY}")
    found = _KEY.fullmatch(key)
    name = found["name"] if found else key
    if not _NAME.fullmatch(name) or found is None:
        raise ValueError(
            "a name has lower-case letters, digits and _, and a letter first; such as accuracy_ratio"
        )
    if name.endswith(_SUFFIXES):
        raise ValueError(f"{PREFIX}{name} would be a gauge, and names of gauges do not end in "
                         f"_{name.rpartition('_')[2]}; choose another name")  # fmt: skip
    return Series(name, _labels(found["labels"]))


def _labels(text: str | None) -> tuple[tuple[str, str], ...]:
    if text is None:
        return ()
    labels, end = {}, 0
    for found in _LABEL.finditer(text):
        if found.start() == end and found["label"] not in labels:
            labels[found["label"]], end = found["value"], found.end()
    if end != len(text) or not labels:
        raise ValueError('labels are written {slot="a",kind="b"}, without quotes and backslashes in a value')
    for label, value in labels.items():
        if label in _RESERVED or label.startswith("__"):
            raise ValueError(f"the label {label} belongs to Prometheus or to the run; choose another name")
        require_label_value(f"label {label}", value)
    return tuple(sorted(labels.items()))


class EnvironmentMetrics:
    """Checks what environments report. A bad name or value is left out, and ``say`` hears of it once.

    Names keep the labels that they had first. Of one run, the first ``MOST_SERIES`` series are kept.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()
        self._known: dict[str, str] = {}
        self._series: set[str] = set()
        self._labels: dict[str, tuple[str, ...]] = {}

    def read(self, reported: object) -> Reading:
        """What is possible of a mapping. Raises nothing."""
        numbers: dict[str, float] = {}
        left_out = 0
        try:
            if not isinstance(reported, Mapping):
                raise TypeError(f"{shown(reported)} is no mapping; give numbers by name")
            for key, given in reported.items():
                value = None if given is None else self._checked(key, given)
                if value is not None:
                    numbers[self._known[key]] = value
                left_out += value is None and given is not None
        except Exception as error:  # noqa: BLE001 - a mapping of another library may raise anything
            self._say_once("", f"environment metrics are left out: {error}")
            left_out += 1
        return Reading(numbers, left_out)

    def _checked(self, key: object, given: object) -> float | None:
        """The value of a key, which is known from now on; None for what is left out."""
        try:
            value = number(given)
            if value is None or not math.isfinite(value):
                raise ValueError(f"it is {value}; report finite numbers")
            # Looked up first: to parse a key takes much longer, and the same ones come with each episode.
            if not (isinstance(key, str) and key in self._known):
                self._admit(key)
        except TypeError:
            self._refuse(key, f"its value is {shown(given)}; {_remedy(key, given)}")
        except ValueError as error:
            self._refuse(key, str(error))
        else:
            return value
        return None

    def _admit(self, key: object) -> None:
        """Know the key from now on. Raises ValueError where it is impossible."""
        if not isinstance(key, str):
            raise ValueError("a name is a text; such as accuracy_ratio")
        series = series_of(key)
        labels = tuple(label for label, _ in series.labels)
        had = self._labels.get(series.name, labels)
        if labels != had:
            raise ValueError(
                f"its name came with the labels {_listed(had)} before; give a name the same labels"
            )
        if series.key not in self._series and len(self._series) >= MOST_SERIES:
            raise ValueError(f"a run has {MOST_SERIES} series of its environments at most; report fewer labels")
        self._series.add(series.key)
        self._labels[series.name] = labels
        self._known[key] = series.key

    def _refuse(self, key: object, why: str) -> None:
        self._say_once(shown(key), f"environment metric {shown(key)} is left out: {why}")

    def _say_once(self, key: str, problem: str) -> None:
        if key in self._said or len(self._said) >= _MOST_PROBLEMS:
            return
        self._said.add(key)
        with suppress(Exception):  # of a program's own log handler, which may send the line anywhere
            self._say(" ".join(problem.split()))


def _remedy(key: object, given: object) -> str:
    if isinstance(given, Mapping) and given:
        return f"write one key a number, such as {Series(str(key), (('kind', str(next(iter(given)))),)).key}"
    return "report one number"


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) or "(none)"


def episode_means(episodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each key over the episodes that reported its name.

    An episode that reports a name under some labels counts 0 for the others: of two episodes that ended on the
    maps ``ice`` and ``sand``, each label has the mean 0.5.
    """
    totals: dict[str, float] = {}
    alike: Counter[tuple[str, ...]] = Counter()
    for numbers in episodes:
        alike[tuple(numbers)] += 1
        for key, value in numbers.items():
            totals[key] = totals.get(key, 0.0) + value
    # Most episodes report the same keys, so their names are looked up once.
    reported: Counter[str] = Counter()
    for keys, count in alike.items():
        for name in {series_of(key).name for key in keys}:
            reported[name] += count
    return {key: total / reported[series_of(key).name] for key, total in totals.items()}
