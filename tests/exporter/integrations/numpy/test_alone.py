"""The meter for NumPy needs NumPy and nothing else."""

import subprocess
import sys

import pytest

PROBE = """
import numpy as np
from rl_exporter.integrations.numpy import HeadMeter, Operations
meter = HeadMeter({"a": 3, "b": 2}, operations=Operations("a"))
actions = np.zeros((9, 2), int)
for _ in range(2):
    meter.add(np.eye(9)[:, :5], actions=actions, advantages=np.arange(9.0), log_probs=actions * 1.0, old_log_probs=actions * 1.0)
    meter.gradients(np.ones((5, 2)))
    meter.end_epoch()
print(sorted(meter.result()))
"""


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_measures_where_there_is_no_torch():
    result = python(f"sys.modules['torch'] = None\n{PROBE}")
    assert result.stderr == ""
    assert "state_information" in result.stdout


def test_it_loads_neither_torch_nor_jax():
    loaded = python(f"{PROBE}\nprint(*sys.modules)").stdout.split()
    assert "numpy" in loaded
    assert not {"torch", "jax", "gymnasium"} & set(loaded)


@pytest.mark.parametrize(
    "module", ["rl_exporter", "rl_exporter.integrations", "rl_exporter.integrations.meter"]
)
def test_the_exporter_alone_does_not_load_numpy(module):
    result = python(f"import {module}; print(*sys.modules)")
    assert module in result.stdout.split()
    assert not {"torch", "numpy"} & set(result.stdout.split())


def test_without_numpy_the_import_says_what_to_install():
    result = python("sys.modules['numpy'] = None\nimport rl_exporter.integrations.numpy")
    assert result.returncode == 1
    assert result.stderr.endswith(
        "ImportError: rl_exporter.integrations.numpy needs NumPy; pip install numpy\n"
    )
