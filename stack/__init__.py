"""Starts trainer, Prometheus, Alertmanager, ``rl-exporter pages`` and Grafana, for people and for tests."""
