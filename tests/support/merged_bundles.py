"""Bundles for servers that exist: what they are merged into, and what is written."""

import yaml

from rl_exporter.cli.main import main
from tests.support.foreign_servers import ALERTMANAGER, PROMETHEUS, RULES


def foreign_configurations(folder):
    """Write another team's configurations, as ``bundle`` is told of them. Returns the folder."""
    for name, text in (("prometheus.yml", PROMETHEUS), ("alertmanager.yml", ALERTMANAGER), ("web.yml", RULES)):
        (folder / name).write_text(text)
    return folder


def bundle(folder, *arguments, merge=("prometheus", "alertmanager")):
    """Merge into the configurations in a folder, and write to ``out`` in it. Returns the exit status."""
    files = [part for name in merge for part in (f"--{name}", str(folder / f"{name}.yml"))]
    try:
        return main(["bundle", "--out", str(folder / "out"), "--into", "existing", *files, *arguments])
    except SystemExit as ended:
        return ended.code


def loaded(folder, name):
    """A file that was written, as YAML means it."""
    return yaml.safe_load((folder / "out" / name).read_text())


FORMS = {
    "block": "rule_files:\n- a.yml # ours\n- b.yml\n",
    "indented": "rule_files:\n    # first\n    - a.yml\nscrape_configs:\n  - job_name: x\n",
    "flow": "rule_files: [a.yml, 'b.yml']\n",
    "flow in lines": "rule_files: [\n  a.yml,\n]\nglobal: {}\n",
    "empty flow": "rule_files: []\n",
    "no value": "rule_files:\nglobal:\n  scrape_interval: 1m\n",
    "null": "rule_files: # none yet\n",
    "absent": "global:\n  scrape_interval: 1m\n",
    "no line end": "global:\n  scrape_interval: 1m",
    "a document mark": "---\nrule_files:\n  - a.yml\n",
    "an end mark": "global: {}\n...\n",
    "anchors": "x: &files [a.yml]\nrule_files: *files\n",
    "flow as a whole": "{global: {scrape_interval: 1m}}\n",
    "lines of Windows": "rule_files:\r\n  - a.yml\r\nglobal:\r\n  scrape_interval: 1m\r\n",
}
REFUSED = {"an end mark", "anchors", "flow as a whole"}
"""Forms of a list that cannot be continued line by line."""
