"""Simulates runs for a real Prometheus. Each is a real exporter with plausible numbers."""
