"""The trainer and its peers, each in a process of its own, for ``benchmarks/trainer.py``."""
