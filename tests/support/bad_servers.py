"""Servers that are no run, each with what the panel says about it."""

import contextlib
import socket
import threading

from rl_exporter.collector import Renderer
from tests.support.panel_runs import ratio_run

BODY = Renderer(ratio_run(0.4).snapshot).render("")[0]


@contextlib.contextmanager
def answering(talk):
    """A server that has ``talk(connection, stop)`` with every client."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.recv(4096)
                    talk(connection, stop)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body, length=None, status="200 OK", extra=""):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{extra}\r\n".encode() + body


def says(answer):
    return lambda connection, stop: connection.sendall(answer)


def silent(connection, stop):
    stop.wait(20)


def dripping(connection, stop):
    connection.sendall(http(b"", length=10**6))
    while not stop.wait(0.05):
        connection.sendall(b"#")


def flooding(connection, stop):
    """100 MB that never end in this test: whoever reads on, reads all of it."""
    connection.sendall(http(b"", length=100 * 10**6))
    for _ in range(1600):
        if stop.is_set():
            return
        connection.sendall(b"# rl_policy_head_entropy_max_nats\n" * 1900)


CUT = BODY[: BODY.index(b"# HELP rl_exporter_record")]


BAD = {
    "a web page": (says(http(b"<html>hello</html>")), "no rl_exporter: it shows no run"),
    "another exporter": (says(http(b"up 1\n")), "no rl_exporter: it shows no run"),
    "cut off in the middle": (says(http(BODY[:-500], len(BODY))), "cut off in the middle"),
    "cut off after a line": (says(http(CUT)), "record_errors_total is missing"),
    "cut off early": (says(http(CUT[:-900])), "0 runs: .*or not all of it"),
    "a state that is none": (says(http(BODY.replace(b'"running"', b'"sleeping"'))), "sleeping"),
    "a count that is none": (
        says(http(BODY.replace(b'updates_total{run_id="run"} 1.0', b'updates_total{run_id="run"} NaN'))),
        "impossible",
    ),
    "not found": (
        says(http(b"", status="404 Not Found")),
        r"HTTP status 404 \(is this the address of /metrics",
    ),
    "down": (says(http(b"", status="503 Down")), "HTTP status 503"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9\r\n"), "does it speak HTTP"),
    "nothing": (says(b""), "the connection broke"),
    "in circles": (says(http(b"", status="302 Found", extra="Location: /again\r\n")), "redirect"),
    "silent": (silent, r"no answer within [\d.]+ s"),
    "dripping": (dripping, r"no whole answer within [\d.]+ s"),
    "100 MB": (flooding, "more than 8 MiB"),
}
"""By what it is: how it talks, and the pattern of the message."""
