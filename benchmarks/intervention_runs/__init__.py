"""Runs that collapse, drift, move, converge or stay healthy, each with and without an intervention."""
