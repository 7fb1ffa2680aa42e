"""Messages arrive once, in order, however a webhook behaves; what cannot arrive costs one line of the log."""

import logging
import threading

import pytest

from rl_exporter.notify.delivery import MAX_WAITING, Delivery
from rl_exporter.notify.destination import parse_destination
from tests.support.bad_servers import answering, dripping, http, says, silent
from tests.support.ports import free_ports
from tests.support.waiting import until
from tests.support.webhooks import webhook


@pytest.fixture
def deliver():
    """Deliver messages to a URL with short times."""
    made = []

    def start(url, *bodies, **times):
        made.append(Delivery(parse_destination(url), **{"first_delay": 0.01, "post_seconds": 10, **times}))
        for body in bodies:
            made[-1].put(body)
        return made[-1]

    yield start
    for delivery in made:
        delivery.close(0)


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "rl_exporter"]


def test_messages_arrive_in_order(deliver, caplog):
    with webhook() as hook:
        delivery = deliver(hook.url, b"1", b"2", b"3")
        delivery.close(30)
        assert hook.posts == [1, 2, 3]
        assert hook.headers[0]["Content-Type"] == "application/json"
    assert lines(caplog) == []


def test_a_login_goes_into_a_header(deliver):
    with webhook() as hook:
        deliver(hook.url.replace("http://", "http://me:pass@"), b"1").close(30)
        assert hook.headers[0]["Authorization"] == "Basic bWU6cGFzcw=="


def test_what_fails_for_a_while_is_tried_again_and_arrives_once(deliver, caplog):
    with webhook(500, 503, 429, 200) as hook:
        deliver(hook.url, b"1", b"2")
        hook.arrived(5)
        assert hook.posts == [1, 1, 1, 1, 2]
        until(lambda: len(lines(caplog)) == 2)
    assert lines(caplog) == [
        "messages to 127.0.0.1 do not arrive: it answers with HTTP status 500; it tries again meanwhile, and nothing "
        "else stops",
        "messages to 127.0.0.1 arrive again; 0 were lost",
    ]


def test_what_a_webhook_refuses_is_dropped_and_the_next_message_tried(deliver, caplog):
    with webhook(404, 200) as hook:
        deliver(hook.url, b"1", b"2").close(30)
        assert hook.posts == [1, 2]
    assert lines(caplog) == [
        "messages to 127.0.0.1 do not arrive: it answers with HTTP status 404 (is its URL right, and does it take this "
        "format?); the message is dropped, and nothing else stops",
        "messages to 127.0.0.1 arrive again; 1 were lost",
    ]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(deliver, caplog, status):
    with webhook() as elsewhere, webhook((status, {"Location": elsewhere.url})) as hook:
        deliver(hook.url, b"1").close(30)
        assert (hook.posts, elsewhere.posts) == ([1], [])
    assert lines(caplog) == [
        f"messages to 127.0.0.1 do not arrive: it redirects (HTTP status {status}); give the address that it leads to; "
        "the message is dropped, and nothing else stops",
        "1 of the messages to 127.0.0.1 could not be delivered",
    ]


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (silent, "no answer within 0.1 s"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "the connection broke"),
        (says(http(b"", status="500 Oops")), "it answers with HTTP status 500"),
    ],
    ids=["silent", "no HTTP", "500"],
)
def test_what_never_gets_through_costs_one_line_and_a_bounded_end(deliver, caplog, talk, reason):
    with answering(talk) as address:
        delivery = deliver(f"http://{address}/T0KEN", b"1", b"2", post_seconds=0.1)
        until(lambda: lines(caplog))
        delivery.close(0.3)
    assert lines(caplog) == [
        f"messages to 127.0.0.1 do not arrive: {reason}; it tries again meanwhile, and nothing else stops",
        "2 of the messages to 127.0.0.1 could not be delivered",
    ]


def test_an_answer_that_never_ends_is_an_answer(deliver, caplog):
    with answering(dripping) as address:
        deliver(f"http://{address}/", b"1").close(30)
    assert lines(caplog) == []


def test_nobody_listens(deliver, caplog):
    delivery = deliver(f"http://127.0.0.1:{free_ports()[0]}/T0KEN", b"1")
    until(lambda: lines(caplog))
    assert "do not arrive: it cannot be connected to; it tries again" in lines(caplog)[0]
    assert "T0KEN" not in caplog.text
    delivery.close(0)


def test_old_news_is_dropped(deliver, caplog):
    with webhook(500) as hook:
        deliver(hook.url, b"1", give_up=0)
        until(lambda: lines(caplog))
        hook.answers = [(200, {})]
        deliver(hook.url, b"2").close(30)
        assert hook.posts == [1, 2]


def test_the_queue_is_bounded_and_never_waits(deliver, caplog):
    release = threading.Event()

    def held(connection, _stop):
        release.wait(30)
        connection.sendall(http(b""))

    with answering(held) as address:
        delivery = deliver(f"http://{address}/")
        for number in range(MAX_WAITING + 50):
            delivery.put(str(number).encode())
        delivery.close(0)
        release.set()
    assert lines(caplog) == [f"{MAX_WAITING + 50} of the messages to 127.0.0.1 could not be delivered"]


def test_a_webhook_may_ask_for_time(deliver, monkeypatch):
    from rl_exporter.notify import delivery

    monkeypatch.setattr(delivery, "LONGEST_DELAY", 0.05)
    with webhook(
        (429, {"Retry-After": "3600"}), (503, {"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}), 200
    ) as hook:
        deliver(hook.url, b"1").close(30)
        assert hook.posts == [1, 1, 1]


def test_a_handler_of_the_program_that_raises_stops_nothing(deliver):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    log, handler = logging.getLogger("rl_exporter"), Broken()
    log.addHandler(handler)
    try:
        with webhook(404, 200) as hook:
            deliver(hook.url, b"1", b"2").close(30)
            assert hook.posts == [1, 2]
    finally:
        log.removeHandler(handler)
