"""The configuration of another team's servers, with its own routes, receivers, labels and rules."""

PROMETHEUS = """\
# Web team. Ask before you change anything.
global:
  scrape_interval: 15s
  evaluation_interval: 1m   # enough for us
  external_labels:
    region: eu
    prometheus: web-a
    replica: a
rule_files:
- web*.yml

alerting:
  alert_relabel_configs:
    - regex: replica
      action: labeldrop
  alertmanagers:
    - static_configs:
        - targets: ['127.0.0.1:9093']

scrape_configs:
    # The shop.
    - job_name: web
      honor_labels: true
      metric_relabel_configs:
        - target_label: team
          replacement: web
      static_configs:
        - targets: ['127.0.0.1:9']
    - job_name: prometheus
      static_configs:
        - targets: ['127.0.0.1:9090']
    - job_name: alertmanager
      static_configs:
        - targets: ['127.0.0.1:9093']
"""

RULES = """\
groups:
  - name: web
    rules:
      - alert: ShopDown
        expr: up{job="web"} == 0
        labels: {severity: critical, team: web}
        annotations: {summary: The shop is down}
      - alert: ShopSlow
        expr: up{job="web"} == 0
        labels: {severity: warning, team: web}
"""

ALERTMANAGER = """\
global: {resolve_timeout: 5m}
templates: [web/*.tmpl]
route:
    receiver: web-mail
    group_by: [team]
    group_wait: 1s
    group_interval: 2s
    routes:
        # Everything critical wakes us.
        - receiver: web-pager
          matchers: [severity="critical"]
inhibit_rules:
    - source_matchers: [team="web", severity="critical"]
      target_matchers: [team="web", severity="warning"]
receivers:
    - name: web-mail
      webhook_configs: [{url: 'http://127.0.0.1:1/mail'}]
    - name: web-pager
      webhook_configs: [{url: 'http://127.0.0.1:1/pager'}]
"""
