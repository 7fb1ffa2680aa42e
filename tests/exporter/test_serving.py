"""``serve`` once more: in the process that serves already, and after it."""

import gc
import logging
import math
import subprocess
import sys
import threading
import urllib.request
import weakref

import pytest

import rl_exporter
from rl_exporter import Discovery, HeadMeasurement, PPOUpdatePayload, RunState
from rl_exporter.integrations.guard import ErrorGuard
from tests.support.scraping import scrape, scrape_to_the_end
from tests.support.served_again import HEADS, LOW, replaced, trained


def body(recorder):
    return urllib.request.urlopen(recorder.url + "/metrics", timeout=10).read().decode()


def test_the_same_run_again_replaces_its_recorder_and_keeps_its_state(serve, caplog):
    first = trained(serve(run_id="grasp"))
    again = serve(run_id="grasp")
    assert (again.url, again.snapshot().run.run_id) == (first.url, "grasp")
    assert replaced(caplog) == [
        f"run 'grasp' at {again.url}: this recorder replaces the former one; it continues after update 4"
    ]
    trained(again, 1)
    snapshot = again.snapshot()
    gripper = snapshot.tamiyo.readings["gripper"]
    assert (snapshot.tamiyo.updates, snapshot.environment_steps, snapshot.episodes) == (5, 320, 15)
    assert (gripper.critical_streak, sum(gripper.effective_histogram.counts)) == (5, 5)
    assert sum(snapshot.update_durations.counts) == 5
    assert 'rl_training_updates_total{run_id="grasp"} 5.0' in body(again)


def test_the_entropies_of_the_former_recorder_are_shown_before_the_first_update(serve):
    trained(serve(run_id="grasp"))
    assert 'rl_policy_head_entropy_nats{head="arm",run_id="grasp"} 1.2' in body(serve(run_id="grasp"))


def test_without_a_name_the_same_heads_at_the_same_fixed_port_are_the_same_run(serve, fixed):
    first = trained(serve(listen=fixed))
    again = serve({"arm": 9, "gripper": 4}, listen=fixed)
    assert again.snapshot().run.run_id == first.snapshot().run.run_id
    assert again.snapshot().tamiyo.updates == 4
    assert again.snapshot().tamiyo.head_arm_entropy == 1.2


def test_a_cell_that_was_interrupted_can_run_again(serve, fixed, caplog):
    cell = "heads = serve(HEADS, listen=fixed)\nwork(heads)"
    session = {
        "serve": serve,
        "HEADS": HEADS,
        "fixed": fixed,
        "work": lambda heads: interrupted(trained(heads)),
    }

    def interrupted(_):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            exec(cell, session)
    assert session["heads"].snapshot().tamiyo.updates == 12
    assert len(replaced(caplog)) == 2


@pytest.mark.parametrize("options", [{}, {"run_id": "grasp", "register": "unique"}])
def test_runs_that_get_a_port_and_a_name_each_stand_side_by_side(serve, tmp_path, caplog, options):
    if "register" in options:
        options = {**options, "register": Discovery(tmp_path, unique=True)}
    first, second = serve(**options), serve(**options)
    assert first.url != second.url
    assert first.snapshot().run.run_id != second.snapshot().run.run_id
    assert replaced(caplog) == []


def test_another_run_does_not_push_one_from_its_port(serve, fixed):
    first = trained(serve(run_id="grasp", listen=fixed))
    for options in ({"run_id": "other"}, {}):
        with pytest.raises(OSError, match="in use") as caught:
            serve(listen=fixed, **options)
        assert str(caught.value).startswith(
            f"cannot listen on {fixed}: the port is in use by run 'grasp' of this process, until its close(); give"
        )
    nameless = {"head": 3}
    with pytest.raises(OSError, match="run 'grasp' of this process"):
        serve(nameless, listen=fixed)
    assert 'rl_training_updates_total{run_id="grasp"} 4.0' in body(first)


def test_other_heads_without_a_name_do_not_push_a_run_from_its_port(serve, fixed):
    first = trained(serve(listen=fixed))
    with pytest.raises(OSError, match=f"by run '{first.snapshot().run.run_id}' of this process"):
        serve({"gripper": 4, "arm": 10}, listen=fixed)
    assert not first.closed


def test_the_address_that_a_run_got_is_its_address(serve):
    first = trained(serve(run_id="grasp"))
    again = serve(run_id="grasp", listen=first.url.removeprefix("http://"))
    assert (again.url, again.snapshot().tamiyo.updates) == (first.url, 4)


def test_heads_that_differ_start_anew_and_the_others_keep_their_state(serve, caplog):
    first = trained(serve(run_id="grasp"))
    first.handler.handle_ppo_update(PPOUpdatePayload(heads={"arm": HeadMeasurement(1.0, nan_steps=7)}))
    again = serve({"arm": 10, "gripper": 4, "leg": 3}, run_id="grasp")
    assert replaced(caplog)[0].endswith(
        "; it continues after update 5; heads that differ start anew: arm (10), leg (3)"
    )
    readings = again.snapshot().tamiyo.readings
    assert (readings["gripper"].entropy, readings["gripper"].critical_streak) == (0.02, 4)
    for name in ("arm", "leg"):
        assert not readings[name].measured
        assert readings[name].nan_values == sum(readings[name].effective_histogram.counts) == 0
    again.record({"gripper": 0.1, "arm": 2.0, "leg": 1.0})
    assert again.snapshot().tamiyo.updates == 6
    assert math.isclose(again.snapshot().tamiyo.entropy, 3.1)


def test_a_run_of_other_heads_starts_anew(serve, caplog):
    trained(serve(run_id="grasp"))
    again = serve({"leg": 4}, run_id="grasp")
    assert replaced(caplog)[0].endswith(
        "; it starts anew, because the former one had other heads: gripper (4), arm (9)"
    )
    snapshot = again.snapshot()
    assert (snapshot.tamiyo.updates, snapshot.environment_steps, snapshot.episode_return) == (0, 0, None)


def test_a_recorder_that_was_replaced_does_nothing_and_says_so_once(serve, caplog):
    first = trained(serve(run_id="grasp"))
    again = serve(run_id="grasp")
    assert first.closed
    assert not again.closed
    for _ in range(2):
        first.record(LOW)
        first.handler.handle_ppo_update(PPOUpdatePayload())
    first.close(RunState.FAILED)
    with first:
        pass
    assert again.snapshot().tamiyo.updates == 4
    assert 'state="running",' not in body(again)
    assert 'rl_training_run_state{run_id="grasp",state="running"} 1' in body(again)
    assert [record.message for record in caplog.records if "is dropped" in record.message] == [
        "an update of run 'grasp' is dropped, and so are later ones: a later serve() replaced this recorder; "
        "record with the one that it returned"
    ]
    assert repr(first).startswith("<HeadRecorder of run 'grasp': replaced, ")


def test_nothing_holds_a_recorder_that_was_replaced():
    options = {"run_id": "held", "listen": "127.0.0.1:0", "linger": 0}
    first = rl_exporter.serve(HEADS, **options)
    held = weakref.ref(first)
    with rl_exporter.serve(HEADS, **options):
        del first
        gc.collect()
        assert held() is None


def test_a_run_that_ended_is_not_continued(serve, fixed):
    trained(serve(run_id="grasp", listen=fixed)).close()
    assert serve(run_id="grasp", listen=fixed).snapshot().tamiyo.updates == 0


def test_a_registered_run_keeps_its_entry(serve, tmp_path, caplog):
    register = Discovery(tmp_path)
    serve(run_id="grasp", register=register)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    again = serve(run_id="grasp", register=Discovery(tmp_path))
    assert path.read_bytes() == before
    assert again.url.removeprefix("http://") in before.decode()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = serve(run_id="grasp", register=Discovery(elsewhere))
    assert [found.name for found in tmp_path.glob("**/*.json")] == [path.name]
    assert moved.url.removeprefix("http://") in (elsewhere / path.name).read_text()
    moved.close()
    assert list(tmp_path.glob("**/*.json")) == []
    assert len(replaced(caplog)) == 2


def test_the_end_waits_for_the_scrapers_of_the_recorder_before(serve):
    first = serve(run_id="grasp")
    scrape(first.url + "/metrics")
    again = serve(run_id="grasp", linger=60)
    end = threading.Thread(target=again.close, daemon=True)
    end.start()
    assert 'state="completed"} 1' in scrape_to_the_end(again.url + "/metrics")
    end.join(60)
    assert not end.is_alive()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"heads": {"arm": 0}}, ValueError),
        ({"experiment": "\ud800"}, ValueError),
        ({"web_config": "/nonexistent"}, (OSError, ValueError)),
        ({"register": Discovery("/nonexistent")}, ValueError),
        ({"resume_from": {}}, TypeError),
    ],
)
def test_bad_input_leaves_the_former_recorder_and_its_state(serve, options, error):
    first = trained(serve(run_id="grasp"))
    with pytest.raises(error):
        serve(run_id="grasp", **options)
    trained(first, 1)
    assert 'rl_training_updates_total{run_id="grasp"} 5.0' in body(first)
    assert serve(run_id="grasp").snapshot().tamiyo.updates == 5


def test_bad_input_leaves_the_entry_of_the_former_recorder(serve, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = serve(run_id="grasp", register=Discovery(tmp_path))
    other = serve({"leg": 4})
    nowhere = Discovery(tmp_path / "misspelt")
    for options in ({"resume_from": other.snapshot()}, {"experiment": "\ud800"}, {"register": nowhere}):
        with pytest.raises(ValueError, match=r"cannot resume|UTF-8|make it first"):
            serve(run_id="grasp", **({"register": Discovery(elsewhere)} | options))
    assert [path.name for path in tmp_path.glob("**/*.json")] == ["grasp.run.json"]
    assert not first.closed
    again = serve(run_id="grasp", register=Discovery(elsewhere))
    assert [path.parent for path in tmp_path.glob("**/*.json")] == [elsewhere]
    assert again.snapshot().run.run_id == "grasp"


def test_an_update_after_the_end_is_counted_and_the_log_says_that_nobody_sees_it(serve, caplog):
    recorder = trained(serve(run_id="grasp"))
    recorder.close()
    assert caplog.messages == []
    trained(recorder, 2)
    assert recorder.snapshot().tamiyo.updates == 6
    assert caplog.messages == [
        "run 'grasp' has ended, and nobody sees its later updates; call serve() for a new run"
    ]


FORKED = """
import os, rl_exporter
options = {{"run_id": "parent", "listen": {address!r}, "linger": 0}}
heads = rl_exporter.serve({{"a": 2}}, **options)
child = os.fork()
if not child:
    try:
        rl_exporter.serve({{"a": 2}}, **options)
    except OSError as error:
        os._exit(0 if "the port is in use;" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), heads.closed)
heads.close()
"""


def test_a_forked_child_does_not_replace_the_recorder_of_its_parent(fixed):
    command = [sys.executable, "-W", "ignore", "-c", FORKED.format(address=fixed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "0 False\n", done.stderr


def test_a_handler_that_raises_ends_neither_a_recorder_nor_a_training(serve):
    class Raising(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    handler = Raising()
    logging.getLogger("rl_exporter").addHandler(handler)
    try:
        trained(serve(run_id="grasp"))
        again = serve(run_id="grasp")
        assert again.snapshot().tamiyo.updates == 4
        again.close()
        trained(again, 1)  # says that nobody sees it
        guard = ErrorGuard(again.count_record_error)
        with guard:
            raise ZeroDivisionError
        assert again.snapshot().record_errors == 1
    finally:
        logging.getLogger("rl_exporter").removeHandler(handler)
