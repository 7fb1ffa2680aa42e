"""PPO: rollouts, advantages, the update."""
