"""One run of ``rl-train``: options, settings, what it is made of, what it shows and writes, its end."""
