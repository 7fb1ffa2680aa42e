"""What a person may give as a setting, odd as it may be."""

from datetime import UTC, date, datetime

from hypothesis import strategies as st

WORDS = st.sampled_from(
    ["1e3", "1234e56", "-1e-3", ".5e1", "1_000", "0x1f", "0o17", "017", "0b1", "1:30", "127.0.0.1:0", "auto", "12:30.5",
     "2026-01-01", "2026-01-01 10:00:00", "~", "null", "on", "No", "y", "true", "=", "<<", ".inf", "-.INF", ".nan",
     "!literal", "&a", "*a", "- a", "? a", "a: b", "a #b", "#", "---", "...", "%a", "@a", "`", "{a}", "[a]", "'", '"', "\\",
     " a ", "a\n b", "\na", "a\r\n", "\x85", "\u2028", "\ufeff", "\udcff", "é", "best", "own", "shared", "linear",
     "constant", "observe", "off", "float32", "bfloat16", "{{ name }}", "a " * 60]
)  # fmt: skip
"""Texts that YAML takes for something else than a text, or that it cannot write without quotes."""

TEXTS = st.one_of(
    WORDS,
    st.text(max_size=20),
    st.integers(-2, 2**31).map(str),
    st.floats(0, 1000, allow_nan=False).map(str),
    st.floats(0, 1).map(str),
)

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.just(...),
    st.binary(max_size=8),
    WORDS,
    st.text(max_size=12),
)

LITERALS = st.recursive(
    _SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=3),
        st.lists(values, max_size=3).map(tuple),
        st.sets(_SCALARS, max_size=4),
        st.sets(st.tuples(_SCALARS, _SCALARS), max_size=3),
        st.dictionaries(st.one_of(_SCALARS, st.tuples(_SCALARS)), values, max_size=3),
    ),
    max_leaves=8,
)
"""Whatever ``--env-arg`` takes."""

DATES = st.one_of(
    st.dates(date(1000, 1, 1)),
    st.datetimes(datetime(1000, 1, 1), timezones=st.none() | st.just(UTC)),  # noqa: DTZ001 - as YAML reads it
)
"""Which only a file has."""

ARGUMENTS = st.one_of(LITERALS, DATES, st.lists(DATES, max_size=2), st.dictionaries(TEXTS, DATES, max_size=2))
