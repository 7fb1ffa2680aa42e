"""The policy: its network, the distributions of its heads, and the rollouts that it acted out."""
