"""Limits that every meter has in common."""

MASKED = 1e4
"""An action whose logit lies this far below the largest of its head was not valid there.

Policies that mask their own logits write -inf, -1e8 or the like. A head that collapsed as far as float32 can
tell is 104 below: no probability shows a mask, not even one that is 0.
"""

WIDE = 1024
"""Choices of a head beyond which its distributions are added up at once rather than kept until the epoch ends.

The vocabulary of a language model times the tokens of a batch would not fit. State information then exists for
steps without masks alone, where the best preference is the mean distribution.
"""
