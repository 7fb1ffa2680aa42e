"""``tests.support.hanging_environment:Hanging-v0``: hangs in its constructor, or in its twentieth step, and says so."""

import time
from pathlib import Path

from tests.support.short_environment import Short, register


class Hanging(Short):
    """``at`` is ``constructor``, ``step`` or ``never``; it touches the file ``said`` before it hangs."""

    def __init__(self, at, said):
        self.at, self.said, self.steps = at, Path(said), 0
        self.hang("constructor")

    def step(self, action):
        self.steps += 1
        if self.steps == 20:
            self.hang("step")
        return super().step(action)

    def hang(self, where):
        if self.at == where:
            self.said.touch()
            time.sleep(600)


register(Hanging, "Hanging-v0")
