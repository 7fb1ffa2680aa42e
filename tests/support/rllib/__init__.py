"""Runs of RLlib to test with; they import only where its library folder is."""
