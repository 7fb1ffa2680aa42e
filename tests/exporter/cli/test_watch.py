"""`rl-exporter watch --once`: text or JSON, and an exit status that scripts can rely on."""

import json
import math
import os
import re
import socket
import subprocess
import sys

import pytest

from rl_exporter import HeadMeasurement, Heads, ListenAddress, MetricsServer, RunInfo, SanctumAggregator
from rl_exporter.cli.main import main
from tests.support.bad_servers import BAD, answering, flooding
from tests.support.panel_runs import ratio_run, run_of


@pytest.fixture
def serve():
    servers = []

    def start(aggregator):
        server = MetricsServer(aggregator.snapshot, ListenAddress(port=0))
        server.start()
        servers.append(server)
        return str(server.address)

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def nobody():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def watch(*arguments):
    try:
        return main(["watch", *map(str, arguments)])
    except SystemExit as exit_:
        return exit_.code


@pytest.mark.parametrize(
    ("ratio", "status"),
    [(0.9, 0), (math.nextafter(0.5, 1), 0), (0.5, 1), (math.nextafter(0.25, 1), 1), (0.25, 2), (0.0, 2)],
)
def test_the_exit_status_is_the_worst_level(serve, capsys, ratio, status):
    assert watch("--once", serve(ratio_run(ratio))) == status
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{ratio:.3f}" in out
    assert "\x1b" not in out
    assert out.startswith("run   ▶ running")


@pytest.mark.parametrize(
    ("ratio", "information", "status", "word"),
    [
        (0.1, 0.003, 2, "collapsed"),
        (0.1, None, 2, "collapsed"),
        (0.1, 0.9, 0, "settled"),
        (0.4, 0.003, 1, "low"),
        (0.4, 0.9, 0, "healthy"),
    ],
)
def test_a_head_that_decides_by_the_state_is_no_failure(serve, capsys, ratio, information, status, word):
    measured = {"op": HeadMeasurement(ratio, ratio, 1.0, 1.0, 0.2, state_information=information)}
    address = serve(run_of(measured))
    assert watch("--once", address) == status
    assert f"\n{word} " in capsys.readouterr().out
    watch("--once", "--json", address)
    document = json.loads(capsys.readouterr().out)
    named = {0: "healthy", 1: "warning", 2: "critical"}[status]
    assert (document["status"], document["heads"][0]["status"]) == (named, named)


def test_before_the_first_update_there_is_no_data(serve, capsys):
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("fresh"))
    assert watch("--once", serve(aggregator)) == 3
    assert "for the first update" in capsys.readouterr().out


def test_nobody_there_is_one_line_and_3(capsys, nobody):
    assert watch("--once", nobody) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"rl-exporter watch: http://{nobody}/metrics: Connection refused (is the run up?)\n"


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_run_is_one_line_and_3(name, capsys):
    talk, reason = BAD[name]
    with answering(talk) as address:
        assert watch("--once", "--timeout", 20 if talk is flooding else 0.5, address) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"rl-exporter watch: http://{address}/metrics: .*{reason}.*\n", err)


def test_of_several_runs_the_worst_is_first_and_counts(serve, capsys, nobody):
    addresses = [serve(ratio_run(ratio, name)) for ratio, name in ((0.9, "fine"), (0.1, "bad"), (0.4, "low"))]
    assert watch("--once", *addresses, nobody) == 2
    out, err = capsys.readouterr()
    assert [out.index(name) for name in ("bad", "low", "fine")] == sorted(
        out.index(n) for n in ("bad", "low", "fine")
    )
    assert err.count("\n") == 1
    assert watch("--once", addresses[2], nobody) == 3


def test_json_is_a_document_a_line(serve, capsys):
    measured = {"a": HeadMeasurement(math.log(4) * 0.75, 0.3, 0.5, 0.9, math.inf, 1.5, nan_steps=2)}
    address = serve(run_of(measured, run_id="jsön"))
    assert watch("--once", "--json", address, serve(ratio_run(0.9))) == 2
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["run_id"], first["status"], second["status"]) == ("jsön", "critical", "healthy")
    (head,) = first["heads"]
    assert head["normalized"] == pytest.approx(0.75)
    assert (head["level"], head["state"], head["nan_values"], head["inf_values"]) == (
        "warning",
        "exploding",
        2,
        1,
    )
    assert head["gradient_norm"] is None
    assert first["url"] == f"http://{address}/metrics"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--interval", "0"], "'0' is not possible; give seconds from 0.1 to 3600"),
        (["--timeout", "soon"], "'soon' is not possible"),
        (["--once", "ftp://x"], "'ftp' is neither http nor https"),
        (
            ["--once", "--targets", "/nonexistent"],
            "No such file or directory; give a directory of target files",
        ),
        (["--once", "--ca-file", "/nonexistent"], "give the authority's certificates as PEM"),
        (["--json"], "--json prints once; write --once --json"),
        (["--once", "/tmp"], "'/tmp' is a directory; write --targets /tmp"),
        (
            ["--once", ""],
            "the address of a run is empty; write trainer:28008 or http://trainer:28008/metrics, or leave it out",
        ),
        (["--once", " "], "the address of a run is empty"),
        (
            ["--once", "--targets", ""],
            "--targets: an empty path leads nowhere; give one, or leave the option out",
        ),
        (["--once", "--ca-file", ""], "--ca-file: an empty path leads nowhere"),
        ([], "the panel needs a terminal; --once prints it as text"),
    ],
)
def test_wrong_usage_is_one_line_and_3(arguments, reason, capsys):
    assert watch(*arguments) == 3
    err = capsys.readouterr().err
    assert reason in err
    assert err.startswith("rl-exporter watch: error: ")
    assert err.count("\n") == 1


def test_other_commands_keep_2(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["metrics", "--bogus"])
    assert exit_.value.code == 2
    assert "rl-exporter metrics: error: unrecognized arguments: --bogus" in capsys.readouterr().err


def test_targets_of_a_directory(serve, capsys, tmp_path):
    assert watch("--once", "--targets", tmp_path) == 3
    assert "no target is listed in" in capsys.readouterr().err
    (tmp_path / "runs.json").write_text(
        json.dumps([{"targets": [serve(ratio_run(0.9)), serve(ratio_run(0.4))]}])
    )
    assert watch("--once", "--targets", tmp_path) == 1
    (tmp_path / "broken.json").write_text("[")
    assert watch("--once", "--targets", tmp_path) == 3
    assert "broken.json" in capsys.readouterr().err


def run_process(*arguments, before="pass", **environment):
    code = f"import sys; {before}; from rl_exporter.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "watch", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=60,
    )


WITHOUT_TEXTUAL = "sys.modules.update(textual=None, rich=None)"


def test_once_needs_no_textual_and_the_panel_says_which_extra(serve):
    done = run_process("--once", serve(ratio_run(0.4)), before=WITHOUT_TEXTUAL)
    assert (done.returncode, done.stderr) == (1, b"")
    assert "0.400 W" in done.stdout.decode()
    refused = run_process(before="import importlib.util; importlib.util.find_spec = lambda name: None")
    assert refused.returncode == 3
    assert b"pip install 'rl-policy-exporter[tui]'; --once works without" in refused.stderr


def test_a_terminal_without_the_symbols_is_no_reason_to_fail(serve):
    done = run_process("--once", serve(ratio_run(0.4)), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"0.400 W" in done.stdout


def test_a_reader_that_goes_away_is_no_reason_to_fail(serve):
    command = (
        f"{sys.executable} -c 'import sys; from rl_exporter.cli.main import main; sys.exit(main(sys.argv[1:]))'"
    )
    shell = f"{command} watch --once --json {serve(ratio_run(0.4))} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")
