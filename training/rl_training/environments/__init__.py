"""Environments of the trainer, and the adapter for any registered Gymnasium environment."""
