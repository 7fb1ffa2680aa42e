"""``make drill`` and ``make rescue``, as a user runs them."""

import os
import subprocess
import sys

from tests.support import ROOT


def shown(name, *arguments, **environment):
    """The finished process of ``stack.drill`` or ``stack.rescue``, with what it printed."""
    paths = os.pathsep.join(str(ROOT / folder) for folder in (".", "exporter", "training"))
    return subprocess.run(
        [sys.executable, "-m", f"stack.{name}", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
