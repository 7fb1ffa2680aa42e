"""What a bundle changes in the shipped files: links, verdict, labels of alerts, names of job and receivers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import yaml

from rl_exporter.discovery.labels import check_labels

GRAFANA_URL = "http://127.0.0.1:3000"
"""Base of the dashboard links in the shipped alert rules."""

RUNBOOK_URL = "http://127.0.0.1:28009/runbooks"
"""Base of their runbook links: ``rl-exporter pages`` on the same machine."""

REPOSITORY_URL = "https://github.com/rl-policy-exporter/rl-policy-exporter/blob/main"
"""Base of links to files that no bundle holds, such as documentation and tests."""

JOB = "rl-training"
"""The job that scrapes runs, as shipped."""

_SUSTAINED = "head:rl_policy_head_condition:sustained"
BY_LEVEL: Mapping[str, str] = MappingProxyType(
    {
        'condition=~"low|collapsed|settled"': 'condition=~"warning|critical|settled"',
        f'{_SUSTAINED}{{condition="collapsed"}}': f'{_SUSTAINED}{{condition="critical"}}',
        f'{_SUSTAINED}{{condition="low"}}': f'{_SUSTAINED}{{condition="warning"}}',
    }
)
"""What the rules select by the verdict, and what they select where the level alone decides."""

_OUTSIDE = "](../../"
"""How a link in a runbook begins that leaves what a bundle holds."""

_BESIDE_RULES = "](../rules/"
"""How a link in a runbook to a rule file begins, where rules and runbooks lie as in the repository."""

_OWN_LAYOUT: Mapping[str, str] = MappingProxyType(
    {
        "`prometheus/alertmanagers/*.json`": "the section `alerting` of `prometheus.yml`",
        "in the folder of the configuration": "each in the folder of its configuration",
        "promtool check config prometheus/prometheus.yml": "promtool check config prometheus.yml",
        "amtool check-config alerts/alertmanager.yml": "amtool check-config alertmanager.yml",
        "see prometheus/alertmanagers/": "add a job for it",
        "list one in prometheus/targets/*.json": "list one in rl/targets/*.json",
        _BESIDE_RULES: f"]({REPOSITORY_URL}/alerts/rules/",
    }
)
"""What runbooks and dashboards say of the layout as shipped, and what they say where servers have their own."""

_ROUTED = re.compile(r"^amtool .*config routes test .*$", re.MULTILINE)
"""A command that asks where an alert goes, by its labels."""

_LABELS_OF_AN_ALERT = re.compile(r"^( +)labels:\n\1  severity: \w+\n", re.MULTILINE)
_OURS = frozenset({"alertname", "severity", "job", "instance", "cluster", "namespace", "problem"})
"""Labels that identify an alert, a run or its target. Rules, routes and inhibition rest on them."""

_DELIVERED = '{integration=~"webhook",receiver_name=~"|(.+/)?(critical|warning|watchdog)"}'
"""What RLMonitoringRuleFailures looks at in Alertmanager, as shipped."""


@dataclass(frozen=True, slots=True)
class Links:
    """Base URLs of the links in alerts, without a trailing slash."""

    grafana: str = GRAFANA_URL
    runbooks: str = RUNBOOK_URL

    def rewritten(self, text: str) -> str:
        """Replace the shipped base URLs in ``text``, and lead links that leave the bundle to the repository."""
        # In one pass: two replacements would rewrite a new URL that contains the other shipped one.
        pairs = {GRAFANA_URL: self.grafana, RUNBOOK_URL: self.runbooks, _OUTSIDE: f"]({REPOSITORY_URL}/"}
        return re.sub("|".join(map(re.escape, pairs)), lambda found: pairs[found[0]], text)


class PageOn(StrEnum):
    """What makes a head page: its level alone, or the verdict, which asks whether the head is blind, too."""

    VERDICT = "verdict"
    LEVEL = "level"

    def rewritten(self, text: str) -> str:
        """The text of a rule file for this choice. The shipped ones are for the verdict."""
        if self is PageOn.LEVEL:
            for verdict, level in BY_LEVEL.items():
                text = text.replace(verdict, level)
        return text


class Receiver(StrEnum):
    """Who gets the pages: ``rl-exporter pages`` on the same machine, or an example of ``alerts/examples``."""

    PAGES = "pages"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"
    EMAIL = "email"
    TEAMS = "teams"
    WEBHOOK = "webhook"

    @property
    def file(self) -> str:
        """The configuration of Alertmanager with these receivers, in the bundle."""
        return "alerts/alertmanager.yml" if self is Receiver.PAGES else f"alerts/examples/{self.value}.yml"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose. ``integrations``: what the receivers use, as Alertmanager counts it."""

    links: Links = field(default_factory=Links)
    page_on: PageOn = PageOn.VERDICT
    labels: Mapping[str, str] = field(default_factory=dict)
    job: str = JOB
    receiver: Receiver = Receiver.PAGES
    integrations: tuple[str, ...] = ("webhook",)
    prefix: str = ""
    """Before the name of each receiver, in servers that exist: another team may have one of the same name."""

    def applied(self, name: Path, text: str) -> str:
        """The text of a shipped file, named relative to the bundle, as chosen."""
        if "rules" in name.parts:
            delivered = self._delivered(of_operator=name.parts[0] == "deploy")
            text = self._labelled(self.page_on.rewritten(text)).replace(_DELIVERED, delivered)
        if name.suffix in {".json", ".yml", ".yaml", ".md"} and self.job != JOB:
            text = _with_job(text, self.job)
        if name.suffix in {".md", ".json"}:
            text = self._told(text)
        return self.links.rewritten(text)

    def _told(self, text: str) -> str:
        """A runbook or a dashboard about these labels, and about the layout of servers that exist."""
        labels = "".join(f" {shlex.quote(f'{name}={value}')}" for name, value in self.labels.items())
        text = _ROUTED.sub(lambda found: found[0] + labels, text)
        for shipped, own in _OWN_LAYOUT.items() if self.prefix else ():
            text = text.replace(shipped, own)
        return text

    def _labelled(self, text: str) -> str:
        more = [f"{name}: {quoted(value)}" for name, value in self.labels.items()]
        return _LABELS_OF_AN_ALERT.sub(
            lambda found: found[0] + "".join(f"{found[1]}  {line}\n" for line in more), text
        )

    def _delivered(self, *, of_operator: bool) -> str:
        """The AlertmanagerConfig keeps its webhooks and its names, before which the operator puts its own."""
        used = "|".join(sorted({*self.integrations, "webhook"} if of_operator else self.integrations))
        prefix = "" if of_operator else self.prefix
        receivers = "|".join(f"{prefix}{name}" for name in ("critical", "warning", "watchdog"))
        return f'{{integration=~"{used}",receiver_name=~"|(.+/)?({receivers})"}}'


def integrations(alertmanager: str) -> tuple[str, ...]:
    """The integrations of the receivers in the text of a configuration, as Alertmanager's metrics name them."""
    receivers = yaml.safe_load(alertmanager)["receivers"]
    keys = {key for receiver in receivers for key in receiver if key.endswith("_configs")}
    return tuple(sorted(key.removesuffix("_configs") for key in keys))


def quoted(text: str) -> str:
    """A YAML scalar in single quotes, which escape nothing but themselves."""
    return "'" + text.replace("'", "''") + "'"


def _with_job(text: str, job: str) -> str:
    """Another name for the scrape job: in configurations and the PodMonitor, in dashboards and runbooks."""
    text = re.sub(
        rf"(job_name|replacement): {JOB}$", lambda found: f"{found[1]}: {job}", text, flags=re.MULTILINE
    )
    return re.sub(rf'(job=\\?"){JOB}\b', lambda found: f"{found[1]}{job}", text)


def link_base(text: str) -> str:
    """Check a base URL and strip trailing slashes. Raises ValueError with the remedy."""
    if not re.fullmatch(r"https?://[^\s\"'{}<>\\`]+", text):
        raise ValueError(f"{text!r} is no base for links; give one such as https://grafana.example.org")
    return text.rstrip("/")


def job_name(text: str) -> str:
    """Check the name of a job. Raises ValueError with the remedy."""
    if not re.fullmatch(r"[A-Za-z][\w-]*", text, re.ASCII):
        raise ValueError(f"{text!r} is no name of a job here; give letters, digits, - and _, such as rl-runs")
    return text


def alert_label(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE, a label for every alert. Raises ValueError with the remedy."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE; write for example team=rl")
    if name in _OURS:
        raise ValueError(f"label {name!r} is not possible: rules and routes rest on it; give another name")
    check_labels({name: value})
    if "{{" in value or not value.isprintable():
        raise ValueError(f"label {name!r} is not possible: its value is a template; give a plain text")
    return name, value
