"""Simulated runs for a real Prometheus: each a real exporter with plausible numbers, a beginning and an end."""
