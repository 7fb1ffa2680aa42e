"""PPO: collecting rollouts, estimating advantages, updating the policy."""
