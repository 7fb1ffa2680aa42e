"""scikit-learn's handwritten digits, split once and for all."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

CLASSES = 10
SIZE = 8
_VALIDATION = 497
_SPLIT_SEED = 20240229


class Digits(NamedTuple):
    """Images (N, 1, 8, 8) in [-1, 1] and labels (N,): 1300 to train on, 497 to validate on."""

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor


@cache
def digits() -> Digits:
    """The data, loaded once per process; the package ships them."""
    bunch = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(bunch.target))
    images = torch.as_tensor(bunch.images[order] / 8 - 1, dtype=torch.float32).unsqueeze(1)
    labels = torch.as_tensor(bunch.target[order], dtype=torch.int64)
    return Digits(images[_VALIDATION:], labels[_VALIDATION:], images[:_VALIDATION], labels[:_VALIDATION])
