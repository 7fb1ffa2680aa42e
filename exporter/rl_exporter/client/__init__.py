"""Reading a run's /metrics back: addresses, fetching, parsing."""
