"""Panel builders: the SDK's, with the settings that all our panels of one type share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import statetimeline as timeline
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from rl_dashboards.queries import thresholds
from rl_dashboards.style import (
    ABSENT_MAPPING,
    DIM,
    HEAD_COLOURS,
    LEVELS,
    colour_by_name,
    colour_by_series,
    colour_by_threshold,
    fixed_colour,
    null_mapping,
    single_colour,
)
from rl_training.action_space import HEADS

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
Overrides = Mapping[str, Mapping[str, object]]
"""Field overrides: property values by property id, by field name."""


class Describable(Protocol):
    """What all panel builders of the SDK have in common; the SDK has no such type."""

    def title(self, title: str) -> Self: ...  # noqa: D102 - the SDK's
    def description(self, description: str) -> Self: ...  # noqa: D102 - the SDK's
    def no_value(self, no_value: str) -> Self: ...  # noqa: D102 - the SDK's
    def datasource(self, datasource: model.DataSourceRef) -> Self: ...  # noqa: D102 - the SDK's
    def with_target(self, target: Builder[Dataquery]) -> Self: ...  # noqa: D102 - the SDK's


P = TypeVar("P", bound=Describable)
Query = prometheus.Dataquery


def range_query(expression: str, legend: str = "", ref: str = "A") -> Query:
    """Query a value at each step of the time range."""
    return _query(expression, ref).range().legend_format(legend)


def instant_query(expression: str, legend: str = "", ref: str = "A") -> Query:
    """Query one value, at the end of the time range."""
    return _query(expression, ref).instant().legend_format(legend)


def table_query(expression: str, ref: str = "A") -> Query:
    """Query one value at the end of the time range, as rows of a table."""
    return _query(expression, ref).instant().format(PromQueryFormat.TABLE)


def _query(expression: str, ref: str) -> Query:
    return prometheus.Dataquery().expr(expression).ref_id(ref).datasource(DATASOURCE)


def described(panel: P, title: str, description: str, no_value: str, targets: Sequence[Query]) -> P:
    """Set title, description, queries and the text without data: no panel may lack one of them."""
    panel = panel.title(title).description(description).no_value(no_value).datasource(DATASOURCE)
    for target in targets:
        panel = panel.with_target(target)
    return panel


def stat_panel(
    title: str,
    description: str,
    no_value: str,
    *targets: Query,
    words: Sequence[model.ValueMap | model.RangeMap] = (),
    colour: bool = True,
    trend: bool = False,
) -> stat.Panel:
    """One number, or one per series, on the colour of its verdict. ``words`` replace some values.

    A null mapping is always added: without one Grafana gives no data the colour of the lowest threshold, red.
    """
    background = options.BigValueColorMode.BACKGROUND_SOLID if colour else options.BigValueColorMode.NONE
    graph = options.BigValueGraphMode.AREA if trend else options.BigValueGraphMode.NONE
    return (
        described(stat.Panel(), title, description, no_value, targets)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).fields("").values(False))
        .color_mode(background)
        .graph_mode(graph)
        .color_scheme(colour_by_threshold())
        .thresholds(single_colour())
        .mappings([*words, null_mapping(no_value)])
        .justify_mode(options.BigValueJustifyMode.CENTER)
        .text_mode(options.BigValueTextMode.VALUE)
    )


def timeseries_panel(
    title: str,
    description: str,
    no_value: str,
    *targets: Query,
    legend: Sequence[str] = ("lastNotNull",),
) -> timeseries.Panel:
    """Lines over time, with a legend table that shows the last value of each."""
    shown = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.RIGHT)
    shown = shown.display_mode(options.LegendDisplayMode.TABLE).calcs(list(legend))
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    return (
        described(timeseries.Panel(), title, description, no_value, targets)
        .color_scheme(colour_by_series())
        .line_width(2)
        .fill_opacity(0)
        .show_points(options.VisibilityMode.AUTO)
        .span_nulls(False)
        .legend(shown)
        .tooltip(tooltip.sort(options.SortOrder.ASCENDING))
    )


def narrow_timeseries_panel(title: str, description: str, no_value: str, *targets: Query) -> timeseries.Panel:
    """Lines in a narrow panel: the legend is below instead of beside them."""
    below = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)
    below = below.display_mode(options.LegendDisplayMode.LIST).calcs(["lastNotNull"])
    return timeseries_panel(title, description, no_value, *targets).legend(below)


def with_threshold_bands(panel: timeseries.Panel, steps: ThresholdsConfig) -> timeseries.Panel:
    """Draw thresholds as dashed lines and shaded bands behind the lines."""
    style = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED_AND_AREA)
    return panel.thresholds(steps).thresholds_style(style)


def table_panel(title: str, description: str, no_value: str, *targets: Query) -> table.Panel:
    """A table. Cells without a value show a dash."""
    return (
        described(table.Panel(), title, description, no_value, targets)
        .color_scheme(colour_by_threshold())
        .thresholds(single_colour())
        .min_width(50)
        .mappings([ABSENT_MAPPING])
        .cell_height(options.TableCellHeight.SM)
    )


def with_thresholds(panel: timeseries.Panel) -> timeseries.Panel:
    """Draw the thresholds that the run declared for its heads as dashed lines."""
    for ref, (level, (_, colour)) in zip("YZ", list(LEVELS.items())[1:], strict=True):
        query = range_query(thresholds(level), f"{{{{head}}}} {level}", ref)
        panel = dashed(panel.with_target(query), ref, colour)
    return panel


def dashed(panel: timeseries.Panel, ref: str, colour: str) -> timeseries.Panel:
    """Draw the lines of a query dashed and thin, and leave them out of legend and tooltip."""
    properties: dict[str, object] = {
        "custom.lineStyle": {"fill": "dash", "dash": [8, 8]},
        "custom.lineWidth": 1,
        "custom.showPoints": "never",
        "color": {"mode": "fixed", "fixedColor": colour},
        "custom.hideFrom": {"legend": True, "tooltip": True, "viz": False},
    }
    return panel.override_by_query(
        ref, [model.DynamicConfigValue(key, value) for key, value in properties.items()]
    )


COLOUR_REF = "C"


def coloured_by_level(panel: stat.Panel, expression: str) -> stat.Panel:
    """Colour the numbers of a panel by ``expression``, one series whose label ``colour`` names the colour.

    Grafana's own thresholds are the same for every head, and a value equal to one has the better colour.
    """
    mapping = {"fieldName": "colour", "handlerKey": "color"}
    chosen = {"configRefId": COLOUR_REF, "mappings": [mapping]}
    panel = panel.with_target(table_query(expression, COLOUR_REF))
    return panel.with_transformation(transformation("configFromData", chosen))


class _Timeline(statetimeline.Panel):
    """A timeline without paging. Grafana turns it off with 0, which the SDK rejects; 1000 still shows its buttons."""

    def build(self) -> model.Panel:
        built = super().build()
        assert isinstance(built.options, timeline.Options)
        built.options.per_page = 0.0
        return built


def state_timeline_panel(title: str, description: str, no_value: str, *targets: Query) -> statetimeline.Panel:
    """Words over time, one row for each series."""
    return (
        described(_Timeline(), title, description, no_value, targets)
        # By threshold, Grafana would show the threshold's range instead of the word.
        .color_scheme(fixed_colour(DIM))
        .show_value(options.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.85)
        .line_width(0)
        .fill_opacity(80)
        .legend(
            common.VizLegendOptions()
            .show_legend(False)
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
        )
    )


def heads_coloured(panel: timeseries.Panel) -> timeseries.Panel:
    """Give lines of heads colours that are no verdict; heads of other policies get theirs by name."""
    panel = panel.color_scheme(colour_by_name())
    colours = dict(zip(HEADS.names, HEAD_COLOURS, strict=True))
    return with_overrides(
        panel, {name: {"color": {"mode": "fixed", "fixedColor": colour}} for name, colour in colours.items()}
    )


class Overridable(Protocol):
    """A panel builder with field overrides; the SDK has no such type."""

    def override_by_name(  # noqa: D102 - the SDK's
        self, name: str, properties: list[model.DynamicConfigValue]
    ) -> Self: ...


T = TypeVar("T", bound=Overridable)


def with_overrides(panel: T, overrides: Overrides) -> T:
    """Add field overrides to a panel."""
    for name, properties in overrides.items():
        values = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
        panel = panel.override_by_name(name, values)
    return panel


def transformation(name: str, chosen: Mapping[str, object], only: str = "") -> model.DataTransformerConfig:
    """A transformation of all results, or of the query ``only``."""
    matcher = model.MatcherConfig(id_val="byRefId", options=only) if only else None
    return model.DataTransformerConfig(id_val=name, filter_val=matcher, options=dict(chosen))
