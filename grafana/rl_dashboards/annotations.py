"""What changed: lines in the graphs at alerts, starts, resumes and ends of runs, and interventions."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.alert_queries import active_since
from rl_dashboards.panels import DATASOURCE
from rl_dashboards.queries import HEAD_KEY, RUN, RUN_KEY, head_selector, run_selector

_START = f"max by ({RUN_KEY}) ({run_selector('rl_training_start_timestamp_seconds')})"
_FIRST = f"max by ({RUN_KEY}) (min_over_time({run_selector('rl_training_start_timestamp_seconds')}[$__range]))"


@dataclass(frozen=True, slots=True)
class Event:
    """What is marked: a query whose value is the time of the event in milliseconds, and how it reads."""

    name: str
    expression: str
    title: str
    text: str
    colour: str


def events() -> tuple[Event, ...]:
    """What is marked, the most important first."""
    interventions = head_selector("rl_policy_head_interventions_total")
    return (
        _alerts("Pages", "critical", "red"),
        _alerts("Warnings", "warning", "yellow"),
        Event("Run", f"1000 * ({_starts_and_ends()})", "run {{event}}", "{{run_id}}", "blue"),
        Event(
            "Interventions",
            f"1000 * timestamp(max by ({HEAD_KEY}, direction) (changes({interventions}[$__interval])) > 0)",
            "controller: {{direction}}",
            "{{head}} {{run_id}}",
            "orange",
        ),
    )


def _alerts(name: str, severity: str, colour: str) -> Event:
    """When alerts of one severity began. None for infos, which say what is normal: dozens would hide the graph."""
    since = active_since(RUN, f', severity="{severity}"')
    return Event(name, f"1000 * {since}", "{{alertname}}", "{{head}} {{run_id}}", colour)


def _starts_and_ends() -> str:
    """Times of starts, of resumes, which are later starts under the same name, and of ends."""
    updated = f"max by ({RUN_KEY}) ({run_selector('rl_training_last_update_timestamp_seconds')})"
    ended = f'max by ({RUN_KEY}, state) (rl_training_run_state{{{RUN}, state!="running"}} == 1)'
    ends = f'label_replace({updated} * on ({RUN_KEY}) group_right () {ended}, "event", "$1", "state", "(.*)")'
    return (
        f'label_replace({_START} == {_FIRST}, "event", "starts", "", "")'
        f' or label_replace({_START} > {_FIRST}, "event", "resumes", "", "") or {ends}'
    )


class _Query(model.AnnotationQuery):
    """Adds the fields of the Prometheus data source that the SDK's annotation lacks.

    ``useValueForTime`` draws one line at the time that is the value. Without it an alert shades the whole time it
    fires, and many alerts hide the graph.
    """

    event: Event

    def to_json(self) -> dict[str, object]:
        event = self.event
        fields: dict[str, object] = {"step": "15s", "titleFormat": event.title, "textFormat": event.text}
        return super().to_json() | fields | {"useValueForTime": True}


class _Annotation(builders.AnnotationQuery):
    def __init__(self, event: Event) -> None:
        super().__init__()
        self._internal = _Query()
        self._internal.event = event


def annotation(event: Event) -> builders.AnnotationQuery:
    """One kind of event, with a switch at the top of the dashboard."""
    built = _Annotation(event).name(event.name).datasource(DATASOURCE).enable(True)
    return built.icon_color(event.colour).expr(event.expression)
