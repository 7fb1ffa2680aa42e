"""The policy: its network, the distributions of its heads, and the data of a rollout."""
