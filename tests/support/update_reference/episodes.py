"""What the episodes within a rollout returned, and how long they were."""

import numpy as np


def episode_returns(rewards, ended):
    """The returns of the episodes that ended within (T, N), the first of which begin at the first step."""
    running = np.zeros(rewards.shape[1])
    found = []
    for reward, ends in zip(rewards, ended, strict=True):
        running += reward
        found.extend(running[ends])
        running[ends] = 0.0
    return found


def episode_lengths(ended):
    """Steps of the episodes that ended within (T, N), the first of which begin at the first step."""
    return [
        int(length)
        for ends in np.asarray(ended).T
        for length in np.diff(np.concatenate(([-1], np.flatnonzero(ends))))
    ]
