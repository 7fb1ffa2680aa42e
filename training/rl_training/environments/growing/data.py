"""scikit-learn's handwritten digits, with a fixed split into training and validation."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CLASSES = 10
PATCH = 9
"""Pixels of a 3 x 3 patch; patches surround every second pixel of every second row of an 8 x 8 image."""
_VALIDATION = 497
_SPLIT_SEED = 20240229


class Digits(NamedTuple):
    """Patches (N, 16, 9) in [-1, 1] and labels (N,): 1300 digits to train on, 497 to validate on."""

    patches: Tensor
    labels: Tensor
    validation_patches: Tensor
    validation_labels: Tensor


@cache
def digits() -> Digits:
    """The data, loaded once per process. scikit-learn ships them, so nothing is downloaded."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second; only workers need it

    bunch = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(bunch.target))
    images = torch.as_tensor(bunch.images[order] / 8 - 1, dtype=torch.float32).unsqueeze(1)
    labels = torch.as_tensor(bunch.target[order], dtype=torch.int64)
    patches = functional.unfold(images, 3, padding=1, stride=2).transpose(1, 2).contiguous()
    return Digits(patches[_VALIDATION:], labels[_VALIDATION:], patches[:_VALIDATION], labels[:_VALIDATION])
