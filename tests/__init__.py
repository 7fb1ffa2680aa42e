"""Tests, in the tree of what they test; ``support`` is shared by them."""
