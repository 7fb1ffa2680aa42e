"""What is said: each alert once when it starts and once when it is over, in the form that a webhook takes."""

import json
from dataclasses import replace

import pytest

from rl_exporter.notify.alerts import Firing, Severity
from rl_exporter.notify.events import Announcements, Event, Message
from rl_exporter.notify.formats import Format, body, text

COLLAPSED = Firing("RLPolicyHeadCollapsed", Severity.CRITICAL, "drill", "op", 100.0, "head op has collapsed",
                   "WAIT at 97% of its decisions", "http://127.0.0.1:28008")  # fmt: skip
LOW = replace(
    COLLAPSED, name="RLPolicyHeadEntropyLow", severity=Severity.WARNING, summary="head op has low entropy"
)
SLOT = replace(LOW, head="slot", summary="head slot has low entropy")
FAILED = replace(COLLAPSED, name="RLTrainingFailed", head="", summary="the run has failed")
OTHER = replace(COLLAPSED, run_id="other", source="http://127.0.0.1:28010")


def said(announcements, *firing, now=0.0):
    return [
        [(event.alert.name.removeprefix("RL"), event.alert.head, event.resolved) for event in message.events]
        for message in announcements.messages(firing, now)
    ]


def test_each_alert_is_said_once_and_its_end_once():
    announcements = Announcements()
    assert said(announcements, COLLAPSED) == [[("PolicyHeadCollapsed", "op", None)]]
    assert said(announcements, replace(COLLAPSED, since=200.0, evidence="other")) == []
    assert said(announcements, now=300.0) == [[("PolicyHeadCollapsed", "op", 300.0)]]
    assert said(announcements) == []
    assert said(announcements, COLLAPSED) == [[("PolicyHeadCollapsed", "op", None)]]


def test_what_another_alert_says_is_not_said():
    announcements = Announcements()
    assert said(announcements, COLLAPSED, LOW) == [[("PolicyHeadCollapsed", "op", None)]]
    # Collapsed no more, but still low.
    both = [[("PolicyHeadEntropyLow", "op", None), ("PolicyHeadCollapsed", "op", 9.0)]]
    assert said(announcements, LOW, now=9.0) == both
    # What was said and is inhibited meanwhile is neither repeated nor resolved.
    assert said(announcements, COLLAPSED, LOW) == [[("PolicyHeadCollapsed", "op", None)]]
    assert said(announcements, now=20.0) == [
        [("PolicyHeadCollapsed", "op", 20.0), ("PolicyHeadEntropyLow", "op", 20.0)]
    ]


def test_a_run_has_one_message_a_look_the_most_urgent_first():
    assert said(Announcements(), SLOT, OTHER, COLLAPSED) == [
        [("PolicyHeadCollapsed", "op", None), ("PolicyHeadEntropyLow", "slot", None)],
        [("PolicyHeadCollapsed", "op", None)],
    ]


def test_a_run_that_failed_is_not_said_to_be_all_right():
    announcements = Announcements()
    assert said(announcements, FAILED) == [[("TrainingFailed", "", None)]]
    assert said(announcements) == []


def lost(number):
    where = f"http://trainer-{number}:28008/metrics"
    return replace(FAILED, name="RLTrainingTargetDown", severity=Severity.WARNING, run_id=f"run-{number}",
                   source=where, summary="the run does not answer", evidence="")  # fmt: skip


def test_a_lost_network_is_one_message():
    announcements = Announcements()
    for look in range(7):
        assert announcements.messages([lost(number) for number in range(10 * look)], 5.0 * look) == []
    [message] = announcements.messages([COLLAPSED, *map(lost, range(70))], 35.0)[:1]
    assert (len(message.events), message.run_id, message.source) == (70, "", "")
    shown = text(message)
    assert shown.startswith("WARNING  run run-0: the run does not answer, for ")
    assert shown.endswith("\nand 50 more")
    sent = document(message, Format.JSON)
    assert [alert["labels"]["run_id"] for alert in sent["alerts"]] == sorted(f"run-{n}" for n in range(70))
    # It is back: one message again, and no waiting.
    [message] = announcements.messages([COLLAPSED], 40.0)
    assert {event.resolved for event in message.events} == {40.0}
    assert len(message.events) == 70


def test_one_lost_run_waits_for_others_and_is_said_with_its_name():
    announcements = Announcements()
    assert announcements.messages([lost(1)], 0.0) == []
    assert announcements.messages([], 10.0) == []
    assert announcements.messages([lost(1)], 20.0) == []
    [message] = announcements.messages([lost(1)], 50.0)
    assert (message.run_id, message.source) == ("run-1", "http://trainer-1:28008/metrics")


MESSAGE = Message(
    "drill", COLLAPSED.source, 400.0, (Event(COLLAPSED), Event(SLOT, resolved=400.0)), "return 14.35"
)


def test_a_text_says_what_since_when_and_what_to_do():
    assert text(MESSAGE) == (
        "CRITICAL  run drill: head op has collapsed, for 5 min\n"
        "WAIT at 97% of its decisions\n"
        "What to do: https://github.com/rl-policy-exporter/rl-policy-exporter/blob/main/alerts/runbooks/RLPolicyHeadCollapsed.md\n"
        "RESOLVED  run drill: head slot has low entropy, after 5 min\n"
        "return 14.35\nhttp://127.0.0.1:28008"
    )


def document(message, form):
    return json.loads(body(message, form))


HOSTILE = replace(
    MESSAGE, events=tuple(Event(replace(event.alert, run_id="<!channel> @everyone & \ud800\n")) for event in MESSAGE.events)
)  # fmt: skip


def test_slack_gets_text_in_which_no_name_calls_anybody():
    assert document(MESSAGE, Format.SLACK)["text"].startswith(
        "\N{LARGE RED CIRCLE} CRITICAL  run drill: head op"
    )
    shown = document(HOSTILE, Format.SLACK)["text"]
    assert "run &lt;!channel&gt; @everyone &amp; " in shown
    assert len(document(many(2000), Format.SLACK)["text"]) < 40_000


def many(count):
    heads = [
        Event(replace(COLLAPSED, head=f"h{i}", summary=f"head {'<' * 9}{i} has collapsed"))
        for i in range(count)
    ]
    return replace(MESSAGE, events=tuple(heads))


def test_discord_gets_at_most_2000_characters_that_mention_nobody():
    sent = document(HOSTILE, Format.DISCORD)
    assert sent["allowed_mentions"] == {"parse": []}
    assert "run <!channel> @everyone & " in sent["content"]
    assert len(document(many(50), Format.DISCORD)["content"]) == 2000


def test_json_is_what_alertmanager_posts():
    from rl_exporter.alerting.notification import parse_notification

    sent = document(MESSAGE, Format.JSON)
    assert (sent["version"], sent["status"], sent["groupLabels"]) == ("4", "firing", {"run_id": "drill"})
    fires, over = parse_notification(sent).alerts
    assert dict(fires.labels) == {
        "alertname": "RLPolicyHeadCollapsed", "severity": "critical", "run_id": "drill", "head": "op",
        "instance": "http://127.0.0.1:28008",
    }  # fmt: skip
    assert fires.annotations["description"] == "WAIT at 97% of its decisions; return 14.35"
    assert (fires.starts.timestamp(), fires.ends, over.ends.timestamp()) == (100.0, None, 400.0)
    assert sent["alerts"][0]["fingerprint"] != sent["alerts"][1]["fingerprint"]


@pytest.mark.parametrize(
    ("events", "mark"),
    [
        ((Event(COLLAPSED),), "RED"),
        ((Event(LOW),), "YELLOW"),
        ((Event(LOW), Event(COLLAPSED, resolved=1.0)), "YELLOW"),
        ((Event(COLLAPSED, resolved=1.0),), "GREEN"),
    ],
)
def test_the_mark_is_that_of_what_fires(events, mark):
    import unicodedata

    first = document(replace(MESSAGE, events=events), Format.SLACK)["text"][0]
    assert unicodedata.name(first) == f"LARGE {mark} CIRCLE"
