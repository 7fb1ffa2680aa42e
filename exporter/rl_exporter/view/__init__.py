"""What a snapshot looks like, whatever shows it: numbers, verdicts, colours, rows."""
