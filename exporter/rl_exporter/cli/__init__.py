"""The console script ``rl-exporter``: its options, and which module handles each command."""
