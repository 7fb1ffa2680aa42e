"""A PPO trainer for policies with several action heads, which reports every head's entropy."""
