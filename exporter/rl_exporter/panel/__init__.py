"""``rl-exporter watch``: the terminal panel ACTION HEADS, and its output for scripts."""
