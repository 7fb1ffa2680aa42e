"""The steps of docs/install.md for plain servers, as printed, in a folder instead of the root of a machine."""

import re
import subprocess

from rl_exporter.cli.main import main
from tests.support import ROOT

PAGE = (ROOT / "docs/install.md").read_text()


def commands(heading, first):
    """What a section tells to type that handles files, if it begins with one of these words."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    return [
        line.strip()
        for block in blocks
        for line in block.splitlines()
        if line.split()[:1] and line.split()[0] in first
    ]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_installing_and_upgrading_as_printed_leaves_the_same_files(tmp_path):
    bundle, root = tmp_path / "bundle", tmp_path / "root"
    assert main(["bundle", "--out", str(bundle), "--into", "existing"]) == 0
    for place in (
        "etc/prometheus",
        "etc/alertmanager",
        "etc/grafana/provisioning/dashboards",
        "var/lib/grafana",
    ):
        (root / place).mkdir(parents=True)

    def typed(lines):
        assert lines
        for line in lines:
            text = re.sub(r"(?<= )/(?=etc|var)", f"{root}/", line)
            subprocess.run(["bash", "-c", text], cwd=tmp_path, check=True, capture_output=True)

    typed(commands("Plain Prometheus and Alertmanager", {"cp"}) + commands("Dashboards", {"mkdir", "cp"}))
    installed = files(root)
    assert {
        "etc/prometheus/rl/rules/heads.yml",
        "etc/alertmanager/rl/rl.tmpl",
        "var/lib/grafana/rl-dashboards/rl-heads.json",
    } <= installed
    for stale in ("etc/prometheus/rl/rules/former.yml", "var/lib/grafana/rl-dashboards/rl-former.json"):
        (root / stale).write_text("{}")
    (root / "etc/prometheus/rl/targets/run.json").write_text("[]")
    typed(commands("Upgrade", {"rm", "mkdir", "cp"}))
    assert files(root) == installed | {"etc/prometheus/rl/targets/run.json"}
