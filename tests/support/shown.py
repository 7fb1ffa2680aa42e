"""What a panel would show of the answers to its queries: Grafana's value mappings, units and colours, by hand."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

from tests.support.dashboard_files import BOARDS, filled, panels


class AsOf(str):
    """The address of a Prometheus, for what it said at one moment: a later scrape that fails changes nothing."""

    def __new__(cls, address, moment):
        found = super().__new__(cls, address)
        found.moment = moment
        return found


def answer(prometheus, expression):
    """Rows of an instant query."""
    url = f"http://{prometheus}/api/v1/query"
    moment = getattr(prometheus, "moment", None) or time.time()
    data = urllib.parse.urlencode({"query": expression, "time": moment}).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=30) as response:
            return json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from error


def panel_of(uid, title):
    """The panel of a dashboard with a title."""
    (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["title"] == title]
    return panel


def rows(prometheus, uid, title, ref="A", **selected):
    """Rows of one query of a panel, of the last ten minutes."""
    (target,) = [target for target in panel_of(uid, title)["targets"] if target["refId"] == ref]
    # Every interval of these worlds is a tenth of the usual one, so that of subqueries is, too.
    return answer(prometheus, filled(target["expr"], **selected).replace(":15s]", ":1500ms]"))


def look(panel, value, field=""):
    """Text and colour that a panel gives to a number: its mappings, else its thresholds."""
    options = dict(panel["fieldConfig"]["defaults"])
    for override in panel["fieldConfig"]["overrides"]:
        if field and override["matcher"]["options"] == field:
            options |= {entry["id"]: entry["value"] for entry in override["properties"]}
    for mapping in options.get("mappings", []):
        found = mapping["type"] == "value" and mapping["options"].get(f"{value:g}")
        if found:
            return found["text"], found["color"]
    steps = options.get("thresholds", {}).get("steps", [])
    colours = [step["color"] for step in steps if step["value"] is None or step["value"] <= value]
    unit = options.get("unit", "")
    prefix = unit.removeprefix("prefix:") if unit.startswith("prefix:") else ""
    return f"{prefix}{value:g}", colours[-1] if colours else ""


def tile(prometheus, uid, title, ref="A", field="", **selected):
    """Text and colour of a tile of one number; without any it is the text for no value, without a colour."""
    found = rows(prometheus, uid, title, ref, **selected)
    panel = panel_of(uid, title)
    if not found:
        return panel["fieldConfig"]["defaults"]["noValue"], ""
    return look(panel, float(found[0]["value"][1]), field)


def column(uid, title, name):
    """The reference of a column of a table, by its name."""
    (ref,) = [
        override["matcher"]["options"].removeprefix("Value #")
        for override in panel_of(uid, title)["fieldConfig"]["overrides"]
        if {"id": "displayName", "value": name} in override["properties"]
    ]
    return ref
