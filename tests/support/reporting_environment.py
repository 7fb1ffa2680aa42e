"""A Gymnasium environment that reports numbers, for the tests of what arrives of them."""

import gymnasium
import numpy as np
from gymnasium import spaces

NAME = "rl-test/Reporting-v0"


class Reporting(gymnasium.Env):
    """Copy k ends its episodes after k + 2 steps (its seed decides k, from 0 to 2), with a reward of 1 a step.

    It reports its length, as an int where that is even, and a label of its own. In between it reports nonsense,
    which nobody may read. ``bad`` reports impossible numbers as well.
    """

    observation_space, action_space = spaces.Box(0, 10, (1,), np.float32), spaces.Discrete(2)
    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, bad=False, render_mode=None):
        self.bad, self.render_mode = bad, render_mode
        self.copy = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.copy = seed % 3
        self.count = 0
        return np.zeros(1, np.float32), {"metrics": {"reset": 1.0}}

    def step(self, action):
        self.count += 1
        over = self.count == self.copy + 2
        reported = {"steps": self.count if self.count % 2 == 0 else float(self.count) + 0.5}
        reported[f'copies_ratio{{copy="{self.copy}"}}'] = True
        if self.bad:
            reported |= {"Bad Name": 1.0, "text": "much", "list": [1, 2], "ragged": np.zeros(self.count)}
        info = {"metrics": reported if over else {"nonsense": np.zeros(self.count)}, "other": self.count}
        if over:
            info["drawing"] = f"copy {self.copy}"
        return np.full(1, self.count, np.float32), 1.0, over and self.copy == 0, over and self.copy > 0, info

    def render(self):
        return f"step {self.count}"


def register():
    """Register it, once."""
    if NAME not in gymnasium.registry:
        gymnasium.register(NAME, Reporting)
    return NAME
