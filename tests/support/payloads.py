"""Payloads as flat mappings, to compare them."""

from dataclasses import asdict, fields

import pytest

from rl_training.telemetry.emitter import build_payload


def exported(result):
    """Everything of an update's payload that an exporter shows, flat, None included."""
    payload = build_payload(result)
    shown = {f.name: getattr(payload, f.name) for f in fields(payload) if f.name != "heads"}
    for name, head in payload.heads.items():
        shown |= {f"{name}.{key}": value for key, value in asdict(head).items()}
    return shown


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-5, nan_ok=True)), name
