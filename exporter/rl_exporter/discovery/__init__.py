"""How Prometheus finds runs: entries in a directory, in the format of its file-based discovery."""
