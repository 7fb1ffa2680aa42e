"""What ends a run before it starts."""


class BadInputError(ValueError):
    """Something the user gave is not possible; the message names it, the reason and the remedy."""


class SaidElsewhereError(BadInputError):
    """The same, but another rank of the run says so."""
