"""One PPO update by its definitions, in NumPy and float64: nothing of the trainer, and no torch.

``network`` is the policy, forward and backward by hand; ``heads`` says what masks mean and what a head's
distribution is; ``losses`` is one minibatch; ``update`` goes through epochs and minibatches, and averages;
``episodes`` counts those that ended.
It is written to be read beside the papers and the help texts of the metrics, not to be fast.
"""

from tests.support.update_reference.episodes import episode_lengths, episode_returns
from tests.support.update_reference.losses import minibatch_loss
from tests.support.update_reference.network import UNITS
from tests.support.update_reference.update import (
    Experience,
    Update,
    behaviour_of,
    lesson,
    reference_update,
)

__all__ = [
    "UNITS",
    "Experience",
    "Update",
    "behaviour_of",
    "episode_lengths",
    "episode_returns",
    "lesson",
    "minibatch_loss",
    "reference_update",
]
