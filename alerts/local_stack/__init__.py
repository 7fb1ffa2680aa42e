"""Prometheus, Alertmanager and ``rl-exporter pages`` on this machine, for the drill and for tests."""
