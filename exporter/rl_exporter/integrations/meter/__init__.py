"""The measurement of action heads from what a loss computes: distributions, masks, gradients."""
