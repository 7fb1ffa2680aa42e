"""Mistakes that look plausible, each an edit of one line, and the tests that must see it.

``make mutants`` applies each to a copy of the sources and runs those tests on it: they have to fail. The table
in README.md beside this file is written from this one.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` occurs once in ``path``; ``tests`` are pytest arguments."""

    mistake: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


_MEASUREMENT = "training/rl_training/measurement.py"
_DISTRIBUTIONS = "training/rl_training/distributions.py"
_TRACKER = "exporter/rl_exporter/tracker.py"
_PROPERTIES = ("tests/training/test_measurement.py",)
_RANKS = ("tests/training/test_ranks.py", "-k", "divergence or outranks or (learn_what and config0-2)")
_AGGREGATOR = ("tests/exporter/test_aggregator.py",)

MUTANTS = (
    Mutant(
        "nats: mean over choice steps instead of all steps",
        _MEASUREMENT,
        "    measured = torch.isfinite(entropy)\n",
        "    measured = torch.isfinite(entropy) & choice\n",
        _PROPERTIES,
    ),
    Mutant(
        "log2 instead of ln",
        _DISTRIBUTIONS,
        "return (self._total.log() - weighted / self._total)",
        "return (self._total.log() - weighted / self._total) / 0.6931471805599453",
        _PROPERTIES,
    ),
    Mutant(
        "normalized: dividing by ln v instead of ln n",
        _MEASUREMENT,
        "        torch.where(measured, entropy, 0.0),\n",
        "        torch.where(measured & choice, entropy / log_valid * float(log_valid.max()), entropy),\n",
        _PROPERTIES,
    ),
    Mutant(
        "counting padding",
        _MEASUREMENT,
        "        measured = measured & ~padding.unsqueeze(-1)\n",
        "        pass\n",
        _PROPERTIES,
    ),
    Mutant(
        "`<` instead of `<=` at 0.25, level",
        "exporter/rl_exporter/health.py",
        "    if ratio <= CRITICAL_THRESHOLD:\n",
        "    if ratio < CRITICAL_THRESHOLD:\n",
        ("tests/exporter/test_health.py",),
    ),
    Mutant(
        "`<` instead of `<=` at 0.25, streak",
        _TRACKER,
        "ratio <= CRITICAL_THRESHOLD, now",
        "ratio < CRITICAL_THRESHOLD, now",
        _AGGREGATOR,
    ),
    Mutant(
        "before the first update: exported as 0.0",
        "exporter/rl_exporter/head_metrics.py",
        "lambda reading: reading.entropy if reading.measured else None",
        "lambda reading: reading.entropy",
        ("tests/exporter/test_server.py", "-k", "before_the_first_update"),
    ),
    Mutant(
        "prefix: also for heads at the base coefficient",
        "exporter/rl_exporter/panel/cells.py",
        'x" if head.entropy_multiplier > 1 else',
        'x" if head.entropy_multiplier >= 1 else',
        ("tests/exporter/panel/test_cells.py", "-k", "prefix"),
    ),
    Mutant(
        "panel: colour from the nats instead of the normalized entropy",
        "exporter/rl_exporter/panel/cells.py",
        '{number(reading.entropy)}", reading.normalized)',
        '{number(reading.entropy)}", reading.entropy)',
        ("tests/exporter/panel/test_cells.py", "-k", "normalized_entropy_decides"),
    ),
    Mutant(
        "streak: not reset by a good update",
        "exporter/rl_exporter/streak.py",
        "            self.length = 0\n",
        "            pass\n",
        _AGGREGATOR,
    ),
    Mutant(
        "streak: reset by an update without choice",
        _TRACKER,
        "            if ratio is not None:\n",
        "            if ratio is None:\n                self._critical.length = 0\n            else:\n",
        _AGGREGATOR,
    ),
    Mutant(
        "entropy after a probability floor",
        _DISTRIBUTIONS,
        "        self._weights = self._centered.exp()\n",
        "        self._weights = self._centered.exp().clamp_min(1e-3)\n",
        _PROPERTIES,
    ),
    Mutant(
        "gradient norm: clipped instead of raw",
        "training/rl_training/ppo.py",
        "        return losses, norm, head_norms\n",
        "        return losses, norm, self.network.heads.gradient_norms() if self.config.telemetry else None\n",
        ("tests/training/test_telemetry.py", "-k", "before_clipping"),
    ),
    Mutant(
        "several ranks: losses divided by the steps of one rank",
        "training/rl_training/ppo.py",
        "(shares * batch.steps)",
        "(shares * batch.advantages.numel())",
        _RANKS,
    ),
    Mutant(
        "several ranks: the KL divergence of one rank ends its update",
        "training/rl_training/ppo.py",
        "        self._ranks.add([*gradients, scalars])\n",
        "        self._ranks.add(gradients)\n",
        _RANKS,
    ),
    Mutant(
        "several ranks: interrupted, although one is gone",
        "training/rl_training/tally.py",
        "        ranks.gather(row)\n",
        "        pass\n",
        _RANKS,
    ),
    Mutant(
        "end of a registered run that nobody has scraped yet: nobody is waited for",
        "exporter/rl_exporter/scrapers.py",
        "            if expected and not self._waiting:\n",
        "            if expected and self._waiting:\n",
        ("tests/exporter/test_scrapers.py",),
    ),
    Mutant(
        "entry: readable as the umask says",
        "exporter/rl_exporter/targets/file_sd.py",
        "            os.fchmod(descriptor, _READABLE)\n",
        "",
        ("tests/exporter/targets/test_file_sd.py", "-k", "umask"),
    ),
    Mutant(
        "end of a run whose entry another one took over: removed",
        "exporter/rl_exporter/targets/registration.py",
        "        if self._path.read_bytes() != self._content:\n",
        "        if not self._path.read_bytes():\n",
        ("tests/exporter/targets/test_registration.py", "-k", "took_over"),
    ),
)


def table() -> str:
    """The mutants as a Markdown table."""
    rows = [f"| {m.mistake} | `{m.path}` | `{m.tests[0]}` |" for m in MUTANTS]
    return "\n".join(("| mistake | edited | seen by |", "| --- | --- | --- |", *rows)) + "\n"
