"""Mistakes in the exporter and in the meter."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_EPOCHS = "exporter/rl_exporter/integrations/meter/epochs.py"
_SUMS = "exporter/rl_exporter/integrations/meter/sums.py"
_NAMED_SUMS = ("tests/exporter/integrations/meter/test_sums.py",)
_TRACKER = "exporter/rl_exporter/tracker.py"
_PROPERTIES = ("tests/exporter/integrations/meter/test_epochs.py",)
_AGGREGATOR = ("tests/exporter/test_aggregator.py",)
_REFERENCE = "tests/training/algorithm/test_update_reference.py"
_NORMALIZE = ("tests/exporter/test_heads.py", "-k", "maximum_entropy")
_LAW = "exporter/rl_exporter/intervention/law.py"
_CONTROLLER = "exporter/rl_exporter/intervention/controller.py"
_LAW_TESTS = ("tests/exporter/intervention/test_law.py",)
_CONTROLLER_TESTS = ("tests/exporter/intervention/test_controller.py",)

EXPORTER = (
    Mutant(
        "nats: mean over choice steps instead of all steps",
        _EPOCHS,
        "    measured = ~entropy.isnan()\n",
        "    measured = ~entropy.isnan() & choice\n",
        _PROPERTIES,
    ),
    Mutant(
        "normalized: dividing by ln v instead of ln n",
        _EPOCHS,
        '"entropy": entropy.nan_to_num(0.0)',
        '"entropy": torch.where(measured & choice, entropy / log_valid * float(log_valid.max()), entropy)',
        _PROPERTIES,
    ),
    Mutant(
        "`<` instead of `<=` at 0.25, level",
        "exporter/rl_exporter/health.py",
        "return 0.0 < threshold >= ratio",
        "return 0.0 < threshold > ratio",
        ("tests/exporter/test_health.py",),
    ),
    Mutant(
        "`<` instead of `<=` at 0.25, streak",
        _TRACKER,
        "at_or_below(ratio, critical)",
        "at_or_below(ratio, critical) and ratio < critical",
        _AGGREGATOR,
    ),
    Mutant(
        "collapse: also of a head that looks at the state",
        _TRACKER,
        "self._collapsed.count(collapsed and bool(blind), now)",
        "self._collapsed.count(collapsed, now)",
        ("tests/exporter/test_verdict_of_a_head.py", "-k", "seeing_is_not"),
    ),
    Mutant(
        "state information that explains little of the uncertainty: counts as seeing",
        "exporter/rl_exporter/health.py",
        "return ratio is not None and not ratio >= BLIND_RATIO_BELOW",
        "return False",
        ("tests/exporter/test_verdict_of_a_head.py", "-k", "by_their_share"),
    ),
    Mutant(
        "the preference of a collapsed head under masks: half found",
        "exporter/rl_exporter/decisions.py",
        "NEWTON_STEPS = 5",
        "NEWTON_STEPS = 1",
        ("tests/exporter/integrations/meter/test_preference.py", "-k", "none_under_any_masks"),
    ),
    Mutant(
        "state information that is not known: counts as seeing",
        "exporter/rl_exporter/health.py",
        "if state_information is None or not state_information >= BLIND_BELOW:",
        "if state_information is not None and not state_information >= BLIND_BELOW:",
        ("tests/exporter/test_verdict_of_a_head.py", "-k", "seeing_is_not"),
    ),
    Mutant(
        "before the first update: exported as 0.0",
        "exporter/rl_exporter/numbers.py",
        "present=lambda owner: owner.measured",
        "present=_always",
        ("tests/exporter/server/test_http.py", "-k", "before_the_first_update"),
    ),
    Mutant(
        "prefix: also for heads at the base coefficient",
        "exporter/rl_exporter/view/cells.py",
        'x" if head.entropy_multiplier > 1 else',
        'x" if head.entropy_multiplier >= 1 else',
        ("tests/exporter/view/test_cells.py", "-k", "prefix"),
    ),
    Mutant(
        "panel: colour from the nats instead of the normalized entropy",
        "exporter/rl_exporter/view/cells.py",
        '    verdict = level(reference_ratio(reading), reading.thresholds)\n    return judged(f"{prefix',
        '    verdict = level(reading.entropy, reading.thresholds)\n    return judged(f"{prefix',
        ("tests/exporter/view/test_cells.py", "-k", "normalized_entropy_decides"),
    ),
    Mutant(
        "streak: not reset by a good update",
        _TRACKER,
        "            self._warning.length = self._critical.length = 0\n",
        "            pass\n",
        _AGGREGATOR,
    ),
    Mutant(
        "streak: reset by an update without choice",
        _TRACKER,
        "            self._idle.count(self._head.choices > 1, now)\n",
        "            self._idle.count(self._head.choices > 1, now)\n            self._critical.length = 0\n",
        _AGGREGATOR,
    ),
    Mutant(
        "several ranks: importance ratios added up instead of the largest taken",
        _SUMS,
        "Declaration(axes, _largest)",
        "Declaration(axes, _sum)",
        _NAMED_SUMS,
    ),
    Mutant(
        "several ranks: losses that every rank holds added up again",
        _SUMS,
        "Declaration(axes, _first)",
        "Declaration(axes, _sum)",
        _NAMED_SUMS,
    ),
    Mutant(
        "end of a registered run that nobody has scraped yet: nobody is waited for",
        "exporter/rl_exporter/server/scrapers.py",
        "            self._anybody = expected and not self._waiting()\n",
        "            self._anybody = expected and self._waiting()\n",
        ("tests/exporter/server/test_scrapers.py",),
    ),
    Mutant(
        "entry: readable as the umask says",
        "exporter/rl_exporter/discovery/file_sd.py",
        "        os.fchmod(descriptor, _READABLE)\n",
        "",
        ("tests/exporter/discovery/test_file_sd.py", "-k", "umask"),
    ),
    Mutant(
        "end of a run whose entry another one took over: removed",
        "exporter/rl_exporter/discovery/ownership.py",
        "        if not regular or read_descriptor(descriptor, MAX_BYTES) != content:\n",
        "        if not regular:\n",
        ("tests/exporter/discovery/test_registration.py", "-k", "took_over"),
    ),
    Mutant(
        "takeover: nobody looks whether the file still has the name",
        "exporter/rl_exporter/discovery/ownership.py",
        "        if is_file and not os.path.samestat(os.fstat(descriptor), path.lstat()):\n",
        "        if not is_file and not path.exists():\n",
        ("tests/exporter/discovery/test_ownership.py", "-k", "while_it_waited"),
    ),
    Mutant(
        "takeover: two may hold the lock at once",
        "exporter/rl_exporter/discovery/ownership.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/hostile/test_takeover.py", "-k", "in_any_order and publish"),
    ),
    Mutant(
        "pages: a web page may post",
        "exporter/rl_exporter/alerting/admission.py",
        '("HTTP_ORIGIN", ',
        '("HTTP_X_ORIGIN", ',
        ("tests/hostile/test_pages.py", "-k", "web_page"),
    ),
    Mutant(
        "pages: a time without zone is taken",
        "exporter/rl_exporter/alerting/notification.py",
        "    if moment.tzinfo is None:\n",
        "    if not moment:\n",
        ("tests/hostile/test_pages.py", "-k", "test_a_time"),
    ),
    Mutant(
        "a YAML alias counts as one value",
        "exporter/rl_exporter/guarded.py",
        "            self._close(None, part)\n",
        "            self._close(None, _Extent(1, 1))\n",
        ("tests/hostile/test_discovery_directory.py", "-k", "each_thing and chain"),
    ),
    Mutant(
        "a long name: the end gets the room of the beginning as well",
        "exporter/rl_exporter/view/layout.py",
        "_fitting(reversed(text), room - text_width(head))",
        "_fitting(reversed(text), room)",
        ("tests/hostile/test_long_names.py", "-k", "both_ends or cut_by"),
    ),
    Mutant(
        "head gradient norms: with those of an aborted epoch",
        _EPOCHS,
        "    finite = torch.isfinite(norms)\n",
        "    finite, whole = torch.isfinite(norms), len(norms)\n",
        (_REFERENCE, "-k", "aborted_epoch"),
    ),
    Mutant(
        "importance ratio: 1 for a head without choice",
        _EPOCHS,
        "    largest = torch.where(choice, ratio, 0.0).amax(0)\n",
        "    largest = ratio.amax(0)\n",
        (_REFERENCE, "-k", "head_without_choice"),
    ),
    Mutant(
        "open share: above 1 exported",
        "exporter/rl_exporter/numbers.py",
        'Number("rl_policy_head_open_steps_ratio", least=0.0, most=1.0,',
        'Number("rl_policy_head_open_steps_ratio", least=0.0,',
        ("tests/exporter/test_validity.py", "-k", "beyond_its_bounds"),
    ),
    Mutant(
        "normalized: dividing by log2 n instead of ln n",
        "exporter/rl_exporter/heads.py",
        "return nats / self.max_entropy if",
        "return nats / math.log2(self.choices) if",
        _NORMALIZE,
    ),
    Mutant(
        "normalized: dividing by ln (n - 1) instead of ln n",
        "exporter/rl_exporter/heads.py",
        "return nats / self.max_entropy if",
        "return nats / math.log(self.choices - 1) if",
        _NORMALIZE,
    ),
    Mutant(
        "on a GPU: an upload for which the host waits",
        "exporter/rl_exporter/integrations/meter/uploads.py",
        "        tensor = tensor.clone().pin_memory() if locked is tensor else locked\n",
        "",
        ("tests/training/telemetry/test_synchronisation.py", "-k", "twice_an_epoch"),
    ),
    Mutant(
        "environments: a mean over the episodes with the label instead of those with the name",
        "exporter/rl_exporter/environment_metrics.py",
        "return {key: total / reported[series_of(key).name] for",
        "return {key: total / sum(key in one for one in episodes) for",
        ("tests/exporter/test_environment_metrics.py", "-k", "mean_is_over"),
    ),
    Mutant(
        "controller: acts on a head that decides by the state",
        _LAW,
        "    low = control.low + 1 if blind and error > 0.0 else 0\n",
        "    low = control.low + 1 if error > 0.0 else 0\n",
        _LAW_TESTS,
    ),
    Mutant(
        "controller: the integral winds up beyond the bound",
        _LAW,
        "    return min(max(total, 0.0), gains.most)\n",
        "    return max(total, 0.0)\n",
        _LAW_TESTS,
    ),
    Mutant(
        "controller: the same snapshot counts twice",
        _CONTROLLER,
        "        if seen == control.seen:\n",
        "        if seen < control.seen:\n",
        _CONTROLLER_TESTS,
    ),
    Mutant(
        "controller: one that observes acts",
        _CONTROLLER,
        "control.added if self._acts else 0.0 for",
        "control.added for",
        _CONTROLLER_TESTS,
    ),
)
