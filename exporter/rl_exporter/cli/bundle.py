"""The options of ``rl-exporter bundle``. Its implementation is imported only when the command runs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from rl_exporter.alerting.rewriting import (
    GRAFANA_URL,
    JOB,
    RUNBOOK_URL,
    Choices,
    Links,
    PageOn,
    Receiver,
    alert_label,
    job_name,
    link_base,
)
from rl_exporter.cli.parser import OneLineParser, checked, given_path

NEW, EXISTING = "new", "existing"


def add_parser(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    """Add the command ``bundle``."""
    bundle = commands.add_parser(
        "bundle",
        help="write rules, alerts, templates, runbooks and dashboards",
        description="Write what Prometheus, Alertmanager and Grafana need, as new servers or existing ones.",
        allow_abbrev=False,
    )
    bundle.add_argument(
        "--out", type=checked(given_path), required=True, metavar="DIR", help="a new or empty folder"
    )
    bundle.add_argument("--into", choices=[NEW, EXISTING], default=NEW,
                        help="whole servers (new), or fragments to merge into existing ones")  # fmt: skip
    bundle.add_argument("--prometheus", type=checked(given_path), metavar="FILE",
                        help="with --into existing: write this prometheus.yml, merged")  # fmt: skip
    bundle.add_argument("--alertmanager", type=checked(given_path), metavar="FILE",
                        help="with --into existing: write this alertmanager.yml, merged")  # fmt: skip
    bundle.add_argument("--receiver", choices=[kind.value for kind in Receiver], default=Receiver.PAGES.value,
                        help="who gets the pages: rl-exporter pages (default), or an example of "
                        "alerts/examples")  # fmt: skip
    bundle.add_argument("--label", action="append", type=checked(alert_label), default=[], metavar="NAME=VALUE",
                        help="label of every alert; repeatable")  # fmt: skip
    bundle.add_argument("--job", type=checked(job_name), default=JOB, metavar="NAME",
                        help=f"name of the job that scrapes, and of merged receivers ({JOB})")  # fmt: skip
    bundle.add_argument("--grafana-url", type=checked(link_base), default=GRAFANA_URL, metavar="U",
                        help=f"base of the dashboard links in alerts ({GRAFANA_URL})")  # fmt: skip
    bundle.add_argument("--runbook-url", type=checked(link_base), default=RUNBOOK_URL, metavar="U",
                        help=f"base of the runbook links in alerts ({RUNBOOK_URL})")  # fmt: skip
    bundle.add_argument("--page-on", choices=[choice.value for choice in PageOn], default=PageOn.VERDICT.value,
                        help="what pages: low entropy of a head that is blind to the state (verdict), or low "
                        "entropy alone (level)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Write the bundle, and say what comes next. Returns the exit status. Raises BundleError."""
    from rl_exporter.alerting.bundle import BundleError, bundle_files, completed, write_bundle  # noqa: PLC0415
    from rl_exporter.alerting.existing import existing_files, next_steps  # noqa: PLC0415 - slow to import

    into_existing = options.into == EXISTING
    if not into_existing and (options.prometheus or options.alertmanager):
        raise BundleError("--prometheus and --alertmanager name what to merge into; add --into existing")
    twice = [name for name, count in Counter(name for name, _ in options.label).items() if count > 1]
    if twice:
        raise BundleError(f"--label names {twice[0]!r} twice; give each label once")
    choices = completed(_choices(options, f"{options.job}-" if into_existing else ""))
    if into_existing:
        files = existing_files(choices, options.prometheus, options.alertmanager)
    else:
        files = bundle_files(choices)
    written, steps = write_bundle(options.out, files), next_steps(options.out, files, into_existing)
    sys.stdout.write(f"{len(written)} files in {options.out}; {steps}\n")
    return 0


def _choices(options: argparse.Namespace, prefix: str) -> Choices:
    return Choices(
        links=Links(options.grafana_url, options.runbook_url),
        page_on=PageOn(options.page_on),
        labels=dict(options.label),
        job=options.job,
        receiver=Receiver(options.receiver),
        prefix=prefix,
    )
