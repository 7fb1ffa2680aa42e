"""The dashboards as code: ``python -m source`` in ``grafana/`` writes ``grafana/dashboards/*.json``."""
