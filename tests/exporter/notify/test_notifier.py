"""A run says by itself, to a real webhook, what the alert rules would page for, and nothing holds it up."""

import re
import subprocess
import sys
import threading
from functools import partial

import pytest

import rl_exporter
from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, RunState, SanctumAggregator
from rl_exporter.notify.destination import parse_destination
from rl_exporter.notify.notifier import Notifier
from tests.support.bad_servers import answering, silent
from tests.support.waiting import until
from tests.support.webhooks import webhook

LOW = HeadMeasurement(0.1, 0.1, 1.0, 1.0, 0.5, state_information=0.001)
HEALTHY = HeadMeasurement(1.0, 0.9, 1.0, 1.0, 0.5, state_information=0.5)


class Training:
    """A run by a clock that a test sets, and its notifier."""

    def __init__(self, url, **options):
        self.now = 1_800_000_000.0
        heads = Heads([rl_exporter.Head("op", 6), rl_exporter.Head("slot", 3)])
        self.aggregator = SanctumAggregator(heads, RunInfo("drill"), clock=lambda: self.now)
        self.notifier = Notifier(
            self.aggregator.snapshot, [parse_destination(url)], source="http://127.0.0.1:28008",
            every=0.01, clock=lambda: self.now, **options,
        )  # fmt: skip

    def updates(self, count, measured, seconds):
        for _ in range(count):
            self.now += seconds
            self.aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": measured, "slot": HEALTHY}))


@pytest.fixture
def training():
    made = []

    def start(url, **options):
        made.append(Training(url, **options))
        return made[-1]

    yield start
    for one in made:
        one.notifier.close(0)


def summaries(post):
    return [(alert["status"], alert["annotations"]["summary"]) for alert in post["alerts"]]


def test_a_collapse_is_said_once_and_its_end_once(training):
    with webhook() as hook:
        run = training(hook.url)
        run.updates(4, LOW, 30)
        [post] = hook.arrived()
        assert summaries(post) == [("firing", "Run drill: head op has collapsed")]
        assert "choice entropy 0.100 for 4 updates" in post["alerts"][0]["annotations"]["description"]
        run.updates(1, HEALTHY, 30)
        run.updates(8, LOW, 30)
        run.updates(10, HEALTHY, 30)
        assert summaries(hook.arrived(2)[1]) == [("resolved", "Run drill: head op has collapsed")]
        run.notifier.close(30)
        assert len(hook.posts) == 2


def test_what_lasts_too_short_is_not_said(training):
    with webhook() as hook:
        run = training(hook.url)
        run.updates(2, LOW, 600)
        run.updates(1, HEALTHY, 600)
        run.updates(40, LOW, 1)
        run.updates(1, HEALTHY, 1)
        run.aggregator.set_run_state(RunState.COMPLETED)
        run.notifier.close(30)
        assert hook.posts == []


def test_the_end_of_a_run_resolves_its_alerts(training):
    with webhook() as hook:
        run = training(hook.url)
        run.updates(4, LOW, 30)
        hook.arrived()
        run.aggregator.set_run_state(RunState.INTERRUPTED)
        run.notifier.close(30)
        assert summaries(hook.posts[1]) == [("resolved", "Run drill: head op has collapsed")]


def test_a_notifier_that_takes_over_says_nothing_twice(training):
    with webhook() as hook:
        run = training(hook.url)
        run.updates(4, LOW, 30)
        hook.arrived()
        run.notifier.give_way()
        again = training(hook.url, judgement=run.notifier.judgement)
        again.now = run.now
        again.updates(8, LOW, 30)
        again.aggregator.set_run_state(RunState.COMPLETED)
        again.notifier.close(30)
        assert [post["status"] for post in hook.posts] == ["firing", "resolved"]


def test_an_error_of_ours_is_one_line(training, caplog):
    def broken():
        raise ZeroDivisionError("odd")

    with webhook() as hook:
        notifier = Notifier(broken, [parse_destination(hook.url)], every=0.01)
        until(lambda: caplog.records)
        notifier.close(30)
    assert [record.getMessage() for record in caplog.records] == [
        "messages about the run fail: ZeroDivisionError: odd"
    ]


def test_a_served_run_says_that_it_failed():
    with webhook() as hook:
        with pytest.raises(ZeroDivisionError), rl_exporter.serve({"op": 6}, run_id="grasp", listen="127.0.0.1:0", linger=0, notify=hook.url):  # fmt: skip
            raise ZeroDivisionError
        [post] = hook.posts
        assert summaries(post) == [("firing", "Run grasp: the run has failed")]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", post["alerts"][0]["labels"]["instance"])


def test_serving_again_goes_on_with_what_was_said():
    with webhook() as hook:
        first = rl_exporter.serve({"op": 6}, run_id="grasp", listen="127.0.0.1:0", linger=0, notify=hook.url)
        address = first.url.removeprefix("http://")
        again = rl_exporter.serve({"op": 6}, run_id="grasp", listen=address, linger=0, notify=[hook.url])
        assert again.notifier.judgement is first.notifier.judgement
        again.close(RunState.FAILED)
        first.close(RunState.FAILED)
        assert len(hook.posts) == 1


def test_a_program_that_dies_says_so():
    program = "import rl_exporter, sys\nrun = rl_exporter.serve({'op': 6}, listen='127.0.0.1:0', linger=0, notify=sys.argv[1])\nraise ValueError"
    with webhook() as hook:
        ended = subprocess.run(
            [sys.executable, "-c", program, hook.url], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert ended.stderr.strip().endswith("ValueError")
        assert [alert["labels"]["alertname"] for post in hook.posts for alert in post["alerts"]] == [
            "RLTrainingFailed"
        ]


def test_a_webhook_that_never_answers_holds_up_neither_training_nor_end(caplog):
    with answering(silent) as address:
        run = rl_exporter.serve({"op": 6}, listen="127.0.0.1:0", linger=0, notify=f"http://{address}/T0KEN")
        run.notifier.close = partial(run.notifier.close, 0.1)
        ended = threading.Thread(target=run.close, args=[RunState.FAILED])
        for _ in range(100):
            run.record({"op": 0.01})
        ended.start()
        ended.join(30)
        assert not ended.is_alive()
    assert [record.getMessage() for record in caplog.records] == [
        "1 of the messages to 127.0.0.1 could not be delivered"
    ]


def test_a_url_that_is_none_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="no URL of a webhook; give the URL"):
        rl_exporter.serve({"op": 6}, listen="127.0.0.1:0", notify="T0KEN")


def test_a_run_without_webhook_imports_no_client():
    program = "import rl_exporter, sys\nrl_exporter.serve({'op': 6}, listen='127.0.0.1:0', linger=0).close()\nprint('urllib3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"  # fmt: skip
