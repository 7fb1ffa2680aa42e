import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest

from rl_exporter.metrics import UPDATE_METRICS
from rl_exporter.server import listen
from rl_training.config import Settings
from rl_training.environments.growing.options import GrowingOptions
from rl_training.run.cli import main, parser, settings_from
from rl_training.run.settings import SECTIONS, settings_of
from tests.support.ports import free_ports
from tests.support.waiting import until

FIXED = ["--env", "heads", "--num-envs", "8", "--listen", "127.0.0.1:0", "--linger", "0"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--updates", "0"], "'0' is not possible; give a whole number >= 1"),
        (["--learning-rate", "nan"], "'nan' is not possible"),
        (["--listen", "nowhere"], "listen address 'nowhere'"),
        (["--env-arg", "noise"], "'noise' is not KEY=VALUE"),
        (["--entropy-multiplier", "slot"], "'slot' is not HEAD=X"),
        (["--entropy-multiplier", "arm=1"], "unknown head 'arm'"),
        (["--threshold", "op=0.2"], "'op=0.2' is not HEAD=WARNING,CRITICAL"),
        (["--threshold", "op=1.5,0.2"], "warning threshold 1.5; give a number from 0 (off) to 1"),
        (["--threshold", "op=0.5,-0.1"], "critical threshold -0.1; give a number from 0 (off) to 1"),
        (["--threshold", "op=nan,0.1"], "give WARNING and CRITICAL, from 0 (off) to 1"),
        (["--threshold", "op=0.2,0.4"], "critical threshold 0.4 above its warning threshold 0.2"),
        (["--threshold", "arm=0.4,0.2"], "--threshold: unknown head 'arm'"),
        (["--reference", "start"], "'start' is not HEAD=REFERENCE"),
        (["--reference", "op=0"], "reference 0.0; give 'maximum', 'start' or a number of nats above 0"),
        (["--reference", "op=median"], "reference 'median'; give 'maximum', 'start' or"),
        (["--reference", "arm=start"], "--reference: unknown head 'arm'"),
        (["--env", "NoSuch-v0"], "environment 'NoSuch-v0' cannot be made"),
        (["--env", "Pendulum-v1"], "MultiDiscrete or Discrete"),
        (["--env-arg", "delay=7"], "delay=7 is not possible; give 0 or 1"),
        (["--device", "tpu9"], "--device 'tpu9' is not there"),
        (["--env-arg", "single_action=true"], "single_action=True is not possible; give a paid_head beside it"),
        (
            ["--keep-checkpoints", "2"],
            "--keep-checkpoints needs the folder to keep them in; give --checkpoint DIR",
        ),
        (
            ["--minibatches", "9"],
            "--minibatches 9 are more than --num-envs 8, and each is of whole environments; give 8 or fewer",
        ),
        (
            ["--hidden", "1000000"],
            "cannot allocate a policy of --hidden 1000000 on cpu; give a smaller --hidden",
        ),
        (["--run-id", ""], "an empty name identifies nothing"),
        (["--log-json", "/nonexistent/log"], "give a file that can be written"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, reason, capsys):
    try:
        status = main([*FIXED, *arguments])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("rl-train: error: ")
    assert error.count("\n") == 1


PATHS = [
    f"--{key}"
    for section in SECTIONS.values()
    for key, s in settings_of(section).items()
    if "Path" in str(s.type)
]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    "command", [*(["--print-config", option] for option in (*PATHS, "--config")), ["play", "--checkpoint"]]
)
def test_the_path_of_an_unset_variable_is_not_the_current_directory(
    command, empty, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*command, empty])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{command[-1]}: an empty path leads nowhere; give one, or leave the option out" in line
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_a_path_is_known():
    assert {"--checkpoint", "--register", "--log-json", "--record-rollouts", "--web.config.file"} <= set(PATHS)


def test_a_busy_port_is_one_line_and_status_2(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--env", "heads", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"]) == 2
    error = capsys.readouterr().err
    assert "the port is in use; give another address with --listen HOST:PORT " in error
    assert error.endswith(", or take the next free port with --listen auto\n")
    assert error.count("\n") == 1


def test_listen_auto_takes_the_next_free_port_and_prints_it(capsys, monkeypatch):
    ports = free_ports(2)
    monkeypatch.setattr(listen, "AUTO_PORTS", ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert main([*FIXED, "--updates", "1", "--run-id", "next", "--listen", "auto"]) == 0
    assert f"run next: http://127.0.0.1:{ports[1]}/metrics" in capsys.readouterr().out


@pytest.mark.slow
def test_the_end_says_for_whom_it_waits_and_ctrl_c_skips_the_wait(tmp_path):
    command = [sys.executable, "-m", "rl_training", *FIXED, "--updates", "1", "--register", tmp_path]
    with subprocess.Popen([*command, "--linger", "600"], stdout=subprocess.PIPE, text=True) as process:
        try:
            waits = next(line for line in process.stdout if "Ctrl-C" in line)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert waits == (
        "waits up to 600 s for a first scraper, for nobody has come yet, to fetch the final state; "
        "Ctrl-C skips the wait\n"
    )


@pytest.mark.slow
def test_bad_input_found_late_ends_the_process():
    command = [sys.executable, "-m", "rl_training", *FIXED, "--log-json", "/nonexistent/log"]
    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 2


def test_plain_lines_and_a_summary_without_a_terminal(capsys, tmp_path):
    log = tmp_path / "log"
    control = ("--entropy-controller", "on", "--entropy-target", "op=0.5")
    assert main([*FIXED, *control, "--updates", "2", "--run-id", "plain", "--log-json", str(log)]) == 0
    out = capsys.readouterr().out
    assert "plain  update 1  " in out
    assert "plain  update 2  " in out
    assert "\x1b" not in out
    assert "lowest" in out
    assert "run plain completed" in out
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2]
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    names = {metric.name + part for metric in UPDATE_METRICS for part in parts.get(metric.kind, ("",))}
    third_update_on = {"rl_policy_head_condition_since_timestamp_seconds"}
    observing = {"rl_policy_head_entropy_coefficient_proposed"}
    assert set(lines[-1]) - third_update_on == {"update", *names} - third_update_on - observing


def test_quiet_says_nothing(capsys):
    assert main([*FIXED, "--updates", "1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_an_environment_that_raises_fails_the_run_with_its_traceback(capsys, caplog, monkeypatch):
    from rl_training.environments.heads.environment import HeadsVectorEnv

    def broken(self, actions):
        raise RuntimeError("the robot fell over")

    monkeypatch.setattr(HeadsVectorEnv, "step", broken)
    assert main([*FIXED, "--updates", "1", "--run-id", "broken"]) == 1
    assert "run broken failed" in capsys.readouterr().out
    assert "the robot fell over" in caplog.text
    assert "Traceback" in caplog.text


def test_an_environment_that_cannot_be_closed_ends_as_it_was_trained(capsys, caplog, monkeypatch):
    from rl_training.environments.heads.environment import HeadsVectorEnv

    def broken(self, **_):
        raise RuntimeError("close\nfailed")

    monkeypatch.setattr(HeadsVectorEnv, "close", broken)
    assert main([*FIXED, "--updates", "1", "--run-id", "whole"]) == 0
    assert "run whole completed" in capsys.readouterr().out
    assert caplog.messages == ["close() of the environment raised RuntimeError: close failed"]


def test_rollouts_of_a_run_without_an_update_are_not_silently_missing(tmp_path, caplog):
    kept = ("--checkpoint", str(tmp_path / "kept"), "--updates", "1", "--quiet")
    assert main([*FIXED, *kept]) == 0
    archive = tmp_path / "rollouts.npz"
    assert main([*FIXED, *kept, "--resume", "--record-rollouts", str(archive)]) == 0
    assert not archive.exists()
    (line,) = caplog.messages
    assert line.endswith("rollouts.npz' not written: there was no update to keep")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--run-id", "\udcff"],
            "argument --run-id: text '\\udcff' is not valid UTF-8, as Prometheus requires",
        ),
        (["--experiment", "\udcff"], "argument --experiment: text '\\udcff' is not valid UTF-8"),
        (["--device", "meta"], "--device 'meta' is not there: Tensor.item() cannot be called on meta tensors"),
    ],
)
def test_what_cannot_be_a_name_or_a_device_is_one_line(options, said, capsys):
    try:
        status = main([*FIXED, *options])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_cleanly(number, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "rl_training", *FIXED, "--run-id", "cut", "--log-json", str(log)]
    process = subprocess.Popen(
        [*command, "--updates", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: log.exists() and log.stat().st_size)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "run cut interrupted" in out
    assert err == ""


def test_defaults():
    options = parser().parse_args([])
    settings = settings_from(options)
    assert settings == Settings(environment=asdict(GrowingOptions()))
    assert settings.run.env == "growing-network"
    assert (settings.run.num_envs, settings.output.linger, settings.run.updates) == (32, 270.0, None)
