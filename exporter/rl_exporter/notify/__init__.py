"""Pages without a monitoring stack: judges runs as the alert rules do, and posts messages to a webhook."""
