"""Trainer, Prometheus, Alertmanager, ``rl-exporter pages`` and Grafana on this machine: stack, drill, tests."""
