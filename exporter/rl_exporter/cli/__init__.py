"""The console script ``rl-exporter``: its options, and which part does what they ask."""
