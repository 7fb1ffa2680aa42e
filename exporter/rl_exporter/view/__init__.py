"""How a snapshot is shown, in every output: numbers, verdicts, colours, rows, JSON."""
