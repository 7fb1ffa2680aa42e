"""The HTTP server of a run: /metrics, probes and the landing page."""
