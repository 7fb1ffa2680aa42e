"""One run of ``rl-train``: options and settings, its parts, what it shows and writes, and how it ends."""
