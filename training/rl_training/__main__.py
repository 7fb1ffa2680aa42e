"""``python -m rl_training`` is ``rl-train``."""

import sys

from rl_training.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
