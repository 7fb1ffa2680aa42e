"""A Gymnasium environment of short episodes, for tests that make one thing of it odd."""

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 4
"""Of an episode."""


class Short(gymnasium.Env):
    """Observes noise; the reward is 1 for action 1 of the first head. It ends by truncation."""

    observation_space, action_space = spaces.Box(-1, 1, (3,), np.float32), spaces.MultiDiscrete([3, 4])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observed(), {}

    def step(self, action):
        self.count += 1
        return self.observed(), float(action[0] == 1), False, self.count == STEPS, {}

    def observed(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def register(kind, name="rl-test/Short-v0"):
    """Register the class, or the function that makes one, in place of the last one of that name."""
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, kind, disable_env_checker=True)
    return name
