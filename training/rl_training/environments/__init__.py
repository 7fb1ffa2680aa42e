"""The trainer's own environments, and an adapter for any registered Gymnasium environment."""
