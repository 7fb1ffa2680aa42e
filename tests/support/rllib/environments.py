"""Small environments with several heads; every observation is another one."""

import gymnasium
import numpy as np
from gymnasium import spaces
from ray.rllib.env.multi_agent_env import MultiAgentEnv

SIZES = (4, 2, 6)


class Reach(gymnasium.Env):
    """Each head earns by matching the sign of one observed number. Episodes of three to nine steps."""

    def __init__(self, config=None):
        self.sizes = (config or {}).get("sizes", SIZES)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.MultiDiscrete(self.sizes)
        self.generator = np.random.default_rng(7)

    def reset(self, *, seed=None, options=None):
        self.left = int(self.generator.integers(3, 10))
        return self.observe(), {}

    def step(self, action):
        wanted = np.resize(self.numbers, len(self.sizes)) > 0
        reward = float((np.asarray(action) == wanted).sum())
        self.left -= 1
        done = self.left == 0
        return self.observe(), reward, done and bool(wanted[0]), done and not wanted[0], {}

    def observe(self):
        self.numbers = self.generator.normal(size=4).astype(np.float32)
        return self.numbers


class Masked(Reach):
    """Half of the actions of a head are valid; its last head never has a choice."""

    def __init__(self, config=None):
        super().__init__(config)
        self.observation_space = spaces.Dict(
            {
                "observations": self.observation_space,
                "action_mask": spaces.Box(0.0, 1.0, (sum(self.sizes),), np.float32),
            }
        )

    def observe(self):
        masks = [self.generator.random(size) < 0.5 for size in self.sizes]
        masks[-1][:] = False
        for mask in masks:
            mask[0] = True
        return {"observations": super().observe(), "action_mask": np.concatenate(masks).astype(np.float32)}


class Nested(Reach):
    """The heads of a Dict action space."""

    def __init__(self, config=None):
        super().__init__(config)
        self.action_space = spaces.Dict({"valve": spaces.Discrete(3), "arm": spaces.MultiDiscrete([2, 4])})

    def step(self, action):
        return super().step(np.array([*action["arm"], action["valve"]]))


class Two(MultiAgentEnv):
    """Two agents with spaces of their own; the second one leaves early, so that it has fewer steps."""

    def __init__(self, config=None):
        super().__init__()
        self.parts = {"first": Reach(), "second": Reach({"sizes": (3, 5)})}
        self.possible_agents = self.agents = list(self.parts)
        self.observation_spaces = {name: part.observation_space for name, part in self.parts.items()}
        self.action_spaces = {name: part.action_space for name, part in self.parts.items()}

    def reset(self, *, seed=None, options=None):
        self.agents = list(self.parts)
        return {name: part.reset()[0] for name, part in self.parts.items()}, {}

    def step(self, actions):
        results = {name: self.parts[name].step(action) for name, action in actions.items()}
        self.agents = [name for name in self.agents if not (results[name][2] or results[name][3])]
        columns = [{name: result[index] for name, result in results.items()} for index in range(4)]
        columns[2]["__all__"] = columns[3]["__all__"] = not self.agents
        return *columns, {}


class Box(gymnasium.Env):
    """No head at all."""

    def __init__(self, config=None):
        self.observation_space = self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, True, False, {}
