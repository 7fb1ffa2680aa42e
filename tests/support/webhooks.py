"""A webhook that answers as told and keeps what it was sent."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.waiting import until


class Webhook:
    """``answers``: status and headers of the next answers; the last one repeats."""

    def __init__(self, server, answers):
        self.url = f"http://127.0.0.1:{server.server_address[1]}/services/T0KEN"
        self.answers = list(answers)
        self.posts, self.headers = [], []

    def arrived(self, count=1):
        until(lambda: len(self.posts) >= count)
        return self.posts[:count]


@contextmanager
def webhook(*answers):
    """Serve a webhook, which answers 200 where nothing else is said."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
            hook.headers.append(self.headers)
            hook.posts.append(json.loads(sent))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            hook.posts.append("GET")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hook = Webhook(server, [a if isinstance(a, tuple) else (a, {}) for a in answers] or [(200, {})])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
