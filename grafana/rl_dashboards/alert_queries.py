"""PromQL of the alerts that fire: which of them notify, and how urgent they are."""

from __future__ import annotations

from rl_dashboards.missing import WATCHDOG
from rl_dashboards.queries import HEAD_KEY, RUN, RUN_KEY

NAMES = 'alertname=~"RL.+", alertname!="RLMonitoringWatchdog"'
URGENCY = {"critical": 1, "warning": 2, "info": 3}
"""Places of the severities, the most urgent first."""


def firing(selector: str = RUN, more: str = "") -> str:
    """Alerts of this project that fire."""
    return f'ALERTS{{{selector}, {NAMES}, alertstate="firing"{more}}}'


def active_since(selector: str, more: str = "") -> str:
    """Unix time at which each firing alert became active."""
    return f"(ALERTS_FOR_STATE{{{selector}, {NAMES}}} and ignoring (alertstate) {firing(selector, more)})"


def notifying(selector: str = RUN) -> str:
    """Alerts that notify: without those that Alertmanager inhibits, by the rules of alertmanager.yml."""
    critical, of_head, of_run = ', severity="critical"', ', head!="", run_id!=""', ', head="", run_id!=""'
    starved = firing(selector, ', alertname="RLPolicyHeadStarved"')
    no_operation = firing(selector, ', alertname="RLPolicyHeadCollapsed", head="op"')
    explained = (
        f"({_said_better(selector)}",
        f"{starved} and on ({RUN_KEY}) {no_operation}",
        f"{_less(selector, of_head)} and on ({HEAD_KEY}) {firing(selector, critical + of_head)}",
        f"{_less(selector, of_run)} and on ({RUN_KEY}) {firing(selector, critical + of_run)})",
    )
    return f"({firing(selector)} unless {' or '.join(explained)})"


def _said_better(selector: str) -> str:
    """Critical alerts on a head that another critical one says better.

    What is dead has collapsed; what a controller cannot hold has done either.
    """
    dead, collapsed = (firing(selector, f', alertname="RLPolicyHead{word}"') for word in ("Dead", "Collapsed"))
    beyond_control = firing(selector, ', alertname="RLPolicyControllerSaturated"')
    return (
        f"{collapsed} and on ({HEAD_KEY}) {dead}"
        f" or ({dead} or {collapsed}) and on ({HEAD_KEY}) {beyond_control}"
    )


def _less(selector: str, more: str) -> str:
    return firing(selector, f', severity=~"warning|info"{more}')


def paging(by: str = RUN_KEY, selector: str = RUN) -> str:
    """How many critical alerts fire, by run, without those that another one says better."""
    critical = firing(selector, ', severity="critical"')
    return f"count by ({by}) ({critical} unless ({_said_better(selector)}))"


def listed(selector: str) -> str:
    """The alerts that notify, for how many seconds each has been firing, and ``urgency`` as a label.

    Without any, one row says so; where no alert rules are loaded, it says that instead.
    """
    seconds = f"time() - ({active_since(selector)} and ignoring (alertstate) {notifying(selector)})"
    for severity, place in URGENCY.items():
        seconds = f'label_replace({seconds}, "urgency", "{place}", "severity", "{severity}")'
    silent = f'label_replace(-1 + 0 * max({WATCHDOG}), "alertname", "no alert fires", "", "")'
    deaf = 'label_replace(vector(-1), "alertname", "no alert rules loaded: nothing can fire", "", "")'
    return f"sort_desc({seconds} or on () {silent} or on () {deaf})"
