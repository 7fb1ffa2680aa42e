"""The error that ends a run before it starts."""


class BadInputError(ValueError):
    """Something the user gave is not possible; the message names it, the reason and the remedy."""
