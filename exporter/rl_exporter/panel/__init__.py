"""The panel ACTION HEADS: one picture of a run for the terminal, for scripts and for the landing page."""
