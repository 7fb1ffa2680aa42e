"""The dashboards as code: ``python -m rl_dashboards`` in ``grafana/`` writes ``grafana/dashboards/*.json``."""
