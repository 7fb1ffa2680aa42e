"""``tests.support.slow_environment:Slow-v0``: an environment whose steps take their time, and that says when it was stepped."""

import os
import time
from pathlib import Path

import gymnasium
import numpy as np


class SlowEnv(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, folder):
        self._stepped = Path(folder) / f"{os.getpid()}.stepped"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._stepped.touch()
        time.sleep(0.2)
        return np.zeros(1, np.float32), 0.0, False, False, {}


gymnasium.register("Slow-v0", SlowEnv, disable_env_checker=True)
