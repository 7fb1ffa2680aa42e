"""Runs actions that race for files, step by step: a schedule decides whose turn it is before every system call."""

import errno
import fcntl
import os
import random
import threading
import time

STEPS = ("open", "link", "unlink", "replace", "stat", "lstat", "fstat", "pread", "utime", "rename")


class Actor(threading.Thread):
    """One action that stops before every step until it gets its turn."""

    def __init__(self, name, action):
        super().__init__(name=name, daemon=True)
        self._action = action
        self._turn, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = False
        self.outcome = None
        self.error = None

    def run(self):
        self._turn.acquire()
        try:
            self.outcome = self._action()
        except BaseException as error:  # noqa: BLE001 - the scheduler raises it
            self.error = error
        self.ended = True
        self._stopped.release()

    def pause(self):
        self._stopped.release()
        self._turn.acquire()

    def advance(self):
        """Let it run up to its next step, or its end."""
        self._turn.release()
        assert self._stopped.acquire(timeout=60), f"{self.name} hangs"


def interleave(actions, seed, check):
    """Run ``actions``, a mapping of names, in an order drawn from ``seed``. ``check(actors)`` after each step."""
    rng = random.Random(seed)
    actors = [Actor(name, action) for name, action in actions.items()]
    for actor in actors:
        actor.start()
    try:
        while waiting := [actor for actor in actors if not actor.ended]:
            # Streaks as well as alternation: a race often needs one process to stand still for several steps.
            actor = rng.choice(waiting)
            for _ in range(rng.choice((1, 1, 2, 5, 20))):
                if not actor.ended:
                    actor.advance()
                    check(actors)
    finally:
        for actor in actors:
            while not actor.ended:
                actor.advance()
    for actor in actors:
        if actor.error is not None:
            raise actor.error
    return {actor.name: actor.outcome for actor in actors}


def stop_at_every_step(monkeypatch, *, hard_links=True):
    """Make every system call on files a step of its actor; other threads are not stopped."""

    def stopping(real):
        def step(*arguments, **options):
            pause()
            return real(*arguments, **options)

        return step

    for name in STEPS:
        monkeypatch.setattr(os, name, stopping(getattr(os, name)))
    monkeypatch.setattr(fcntl, "flock", stopping(fcntl.flock))
    # Nothing sleeps and nothing is forced to the disk: thousands of schedules take seconds.
    monkeypatch.setattr(time, "sleep", lambda _: pause())
    monkeypatch.setattr(os, "fsync", lambda _: None)
    if not hard_links:
        monkeypatch.setattr(os, "link", refused)


def pause():
    actor = threading.current_thread()
    if isinstance(actor, Actor):
        actor.pause()


def refused(*_arguments, **_options):
    pause()
    raise PermissionError(errno.EPERM, "Operation not permitted")
