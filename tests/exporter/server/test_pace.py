"""Answers take a share of a core at most, in the order in which they were asked for."""

import asyncio

import pytest

from rl_exporter.server.pace import Pace


class World:
    """A loop whose time passes when it is told to, and a CPU clock that answers move."""

    def __init__(self):
        self.now, self.cpu, self.timers, self.made = 0.0, 0.0, [], []

    def time(self):
        return self.now

    def call_later(self, seconds, call):
        self.timers.append((self.now + seconds, call))
        return self.timers[-1]

    def pass_until(self, end):
        while due := [timer for timer in self.timers if timer[0] <= end]:
            when, call = min(due, key=lambda timer: timer[0])
            self.timers.remove((when, call))
            self.now = max(self.now, when)
            call()
        self.now = end

    def answer(self, name, seconds):
        def make():
            self.made.append((name, self.now))
            self.cpu += seconds

        return make


@pytest.fixture
def world():
    return World()


def pace(world, share=0.25, burst=1.0):
    return Pace(world, share, burst, lambda: world.cpu)


def test_a_burst_is_answered_at_once_and_then_everybody_waits_for_the_turn(world):
    paced = pace(world)
    waits = [paced.has_to_wait(name, world.answer(name, 0.5)) for name in range(6)]
    assert waits == [False, False, False, True, True, True]
    world.pass_until(100)
    assert world.made == [(0, 0), (1, 0), (2, 0), (3, 2), (4, 4), (5, 6)]


def test_the_share_holds_however_many_ask(world):
    paced = pace(world)
    for second in range(100):
        for client in range(10):
            paced.has_to_wait((second, client), world.answer(client, 0.1))
        world.pass_until(second + 1.0)
    assert world.cpu <= 100 * 0.25 + 1.0 + 0.1


def test_who_asks_rarely_never_waits(world):
    paced = pace(world)
    for second in range(0, 1000, 15):
        world.pass_until(second)
        assert not paced.has_to_wait("prometheus", world.answer("prometheus", 0.01))


def test_who_has_gone_is_not_answered(world):
    paced = pace(world)
    for name in range(4):
        paced.has_to_wait(name, world.answer(name, 2.0))
    paced.forget(2)
    world.pass_until(1000)
    assert [name for name, _ in world.made] == [0, 1, 3]


def test_on_a_real_loop_everything_is_answered():
    made = []

    async def ask():
        paced = Pace(asyncio.get_running_loop(), 0.9, 0.0)
        for number in range(50):
            paced.has_to_wait(number, lambda number=number: made.append(sum(range(1000)) and number))
        while len(made) < 50:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert made == list(range(50))
