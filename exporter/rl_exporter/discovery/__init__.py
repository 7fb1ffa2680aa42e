"""Registers runs in a directory where Prometheus finds them, in the format of its file-based discovery."""
