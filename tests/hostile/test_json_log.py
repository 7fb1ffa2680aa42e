"""``--log-json`` on a full disk, and with readers that are slow, stop or leave: whole lines, and no waiting."""

import os
import select
import socket
import threading

import pytest

from rl_exporter import Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_training.run import json_log
from rl_training.run.json_log import JsonLog
from tests.support.small_runs import lines_so_far, logged_updates


class Log:
    """A log of a run, with an update on demand."""

    def __init__(self, path, **options):
        self.aggregator = SanctumAggregator(Heads.of({"arm": 4}), RunInfo("log"))
        self.log = JsonLog(self.aggregator.snapshot, path, self.aggregator.count_record_error, **options)

    def update(self, times=1):
        for _ in range(times):
            self.aggregator.handle_ppo_update(PPOUpdatePayload())
            self.log.handle_ppo_update(PPOUpdatePayload())

    @property
    def errors(self):
        return self.aggregator.snapshot().record_errors


def everything(reader):
    data = b""
    while select.select([reader], [], [], 0)[0] and (piece := os.read(reader, 65536)):
        data += piece
    return data


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def opened(fifo):
    return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)


def test_a_log_on_a_full_disk_keeps_whole_lines_and_loses_none(disk, caplog):
    path = disk.folder / "log"
    run = Log(path)
    run.update(3)
    length, written = path.stat().st_size // 3, 3
    # A page that has been begun takes more, however full the disk is.
    while -path.stat().st_size % os.sysconf("SC_PAGESIZE") > length:
        run.update()
        written += 1
    with disk.full():
        for _ in range(4):
            run.update()
            assert logged_updates(path.read_bytes()) == list(range(1, written + 1))
    assert run.errors == 4, "RLExporterRecordErrors tells the operator"
    assert len(caplog.messages) == 1
    run.update()
    assert logged_updates(path.read_bytes()) == list(range(1, written + 6))
    run.log.close()
    assert run.errors == 4


def test_a_log_that_is_held_back_has_an_end(tmpfs, monkeypatch, caplog):
    monkeypatch.setattr(json_log, "HELD_BYTES", 10_000)
    path = tmpfs.folder / "log"
    run = Log(path)
    with tmpfs.full():
        run.update(30)
        held = len(run.log._held)
        run.log.close()
    assert 0 < held < 30
    assert caplog.messages[-1].endswith(f"{held} lines could not be written")


def test_a_log_is_written_anew_or_continued(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"update": 0}\n')
    run = Log(path, append=True)
    run.update()
    run.log.close()
    assert logged_updates(path.read_bytes()) == [0, 1]
    Log(path).log.close()
    assert path.read_bytes() == b""


def test_a_pipe_without_a_reader_holds_up_nothing_and_a_reader_starts_with_a_whole_line(fifo, caplog):
    run = Log(fifo)
    run.update(2)
    reader = opened(fifo)
    run.update(2)
    assert logged_updates(everything(reader)) == [3, 4]
    os.close(reader)
    run.update(2)
    reader = opened(fifo)
    run.update()
    assert logged_updates(everything(reader)) == [7]
    assert run.errors == 0
    assert [message.partition(": ")[2][:6] for message in caplog.messages] == ["nobody", "nobody"]
    run.log.close()
    os.close(reader)


def test_a_reader_that_is_slow_gets_every_line(fifo, caplog):
    reader = opened(fifo)
    run = Log(fifo)
    run.update(60)
    assert run.log._held, "the pipe is full"
    data = everything(reader)
    run.update()
    for _ in range(9):
        data += everything(reader)
        run.log._write()
    assert logged_updates(data + everything(reader)) == list(range(1, 62))
    assert len(caplog.messages) == 1
    os.close(reader)


def test_a_reader_that_stops_in_the_middle_of_a_line_and_leaves_loses_only_its_own(fifo):
    reader = opened(fifo)
    run = Log(fifo)
    run.update(60)
    os.close(reader)
    run.update()
    reader = opened(fifo)
    run.update(2)
    assert logged_updates(everything(reader)) == [62, 63]
    os.close(reader)


def test_the_end_of_a_run_waits_a_little_for_a_slow_reader_and_not_for_one_that_never_reads(fifo, monkeypatch):
    reader = opened(fifo)
    run = Log(fifo)
    run.update(60)
    found = []

    def read():
        while piece := os.read(reader, 65536):
            found.append(piece)

    os.set_blocking(reader, True)
    thread = threading.Thread(target=read)
    thread.start()
    monkeypatch.setattr(json_log, "_LAST_SECONDS", 60.0)
    run.log.close()
    thread.join()
    assert logged_updates(b"".join(found)) == list(range(1, 61))
    run = Log(fifo)
    run.update(60)
    monkeypatch.setattr(json_log, "_LAST_SECONDS", 0.1)
    run.log.close()
    os.close(reader)


def test_a_socket_is_refused_at_the_start(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device or address"):
            Log(tmp_path / "socket")


def test_tests_that_read_along_leave_out_a_line_that_is_being_written(tmp_path):
    log = tmp_path / "log"
    assert lines_so_far(log) == []
    for written, lines in ((b"", 0), (b'{"update": 1', 0), (b"}", 0), (b'\n{"up', 1), (b'date": 2}\n', 2)):
        with log.open("ab") as file:
            file.write(written)
        assert [line["update"] for line in lines_so_far(log)] == list(range(1, lines + 1))
