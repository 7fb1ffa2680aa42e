"""docs/scripts.md is held to the code."""

import re

from rl_exporter.recorder import LINGER_SECONDS
from rl_exporter.server import listen
from tests.support import ROOT
from tests.support.ports import free_ports

PAGE = (ROOT / "docs/scripts.md").read_text()


def test_the_documented_lines_run_also_a_second_time(capsys, caplog):
    (port,) = free_ports()
    lines, resume = (
        code.replace(":28008", f":{port}") for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    )
    names = {}
    try:
        exec(lines, names)
        exec(lines, names)
        exec(resume, names)
        assert names["heads"].snapshot().tamiyo.updates == 2
        assert names["heads"].snapshot().run.run_id == "grasp-17"
    finally:
        names["heads"].close()
    printed = capsys.readouterr().out.splitlines()
    assert [line.replace(f":{port}", ":28008") for line in printed] == re.findall("<HeadRecorder.*>", PAGE) * 2
    said = caplog.records[0].message.replace(f":{port}", ":28008").replace("after update 1", "after update 120")
    assert f"\n{said}\n" in PAGE


def test_the_documented_numbers_are_those_of_the_code():
    assert f"`linger` seconds ({LINGER_SECONDS:g})" in PAGE
    assert f"port {listen.DEFAULT_PORT} or," in PAGE
    assert f"up to {listen.AUTO_PORTS[-1]}, and prints" in PAGE
    assert f"leaves out {listen.PAGES_PORT}, where" in PAGE
