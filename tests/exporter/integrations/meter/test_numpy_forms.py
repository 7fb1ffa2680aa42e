"""The meter for NumPy and JAX takes the forms that the meter for PyTorch takes, and refuses others in its words."""

import numpy as np
import pytest
import torch

import rl_exporter.integrations.numpy as of_numpy
import rl_exporter.integrations.torch as of_torch
from tests.support.metered_loops import as_tensors, assert_same


def both(heads, **options):
    """A meter of each library, NumPy's first."""
    return [library.HeadMeter(heads, **options) for library in (of_numpy, of_torch)]


class Distribution:
    """Such as those of torch.distributions and distrax."""

    def __init__(self, logits):
        self.logits = logits


def per_head(rows):
    return np.split(rows, [4], axis=-1)


def padded(rows):
    empty = np.zeros((*rows.shape[:-1], 2, 4), rows.dtype)
    empty[..., 0, :], empty[..., 1, :3] = rows[..., :4], rows[..., 4:]
    return empty


FORMS = {
    "one for each head": per_head,
    "by name": lambda rows: dict(zip("ab", per_head(rows), strict=True)),
    "padded": padded,
    "sequences": lambda rows: rows.reshape(5, 4, 7),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_and_masks_have_the_forms_of_the_meter_for_torch(form):
    generator = np.random.default_rng(0)
    rows, masks = generator.standard_normal((20, 7)), generator.random((20, 7)) < 0.7
    masks[:, [0, 4]] = True
    array, tensor = both({"a": 4, "b": 3})
    array.add(FORMS[form](rows), FORMS[form](masks))
    tensor.add(as_tensors(FORMS[form](rows)), torch.tensor(masks))
    assert_same(array.result(), tensor.result())


def test_distributions_are_taken_for_their_logits():
    rows = np.random.default_rng(0).standard_normal((20, 7))
    array, tensor = both({"a": 4, "b": 3})
    array.add([Distribution(part) for part in per_head(rows)])
    tensor.add([torch.distributions.Categorical(logits=torch.tensor(part)) for part in per_head(rows)])
    assert_same(array.result(), tensor.result())


F, I = np.zeros((6, 7)), np.zeros((6, 7), int)  # noqa: E741
M, EMPTY = np.ones((6, 7), bool), np.ones((6, 7), bool)
EMPTY[3, 4:] = False
TIMES = F.reshape(2, 3, 7)
BAD = {
    "integers": {"logits": I},
    "another number of choices": {"logits": F[:, :6]},
    "a head too many": {"logits": [F, F, F]},
    "a head of another size": {"logits": [F[:, :4], F[:, :2]]},
    "a head of another name": {"logits": {"a": F[:, :4], "c": F[:, 4:]}},
    "heads of different steps": {"logits": [F[:, :4], F[:5, 4:]]},
    "masks of floats": {"logits": F, "masks": F},
    "masks of other steps": {"logits": F, "masks": M[:5]},
    "masks of another number of choices": {"logits": F, "masks": M[:, :6]},
    "masks that allow nothing": {"logits": F, "masks": EMPTY},
    "actions of another number of heads": {"logits": F, "actions": I[:, :3]},
    "advantages of other steps": {"logits": F, "advantages": F[:5, 0]},
    "padding of other steps": {"logits": F, "valid": M[:5, 0]},
    "log-probabilities of other heads": {"logits": F, "log_probs": F[:, :2], "old_log_probs": F[:, :3]},
    "consultation of other heads": {"logits": F, "consulted": M[:, :3]},
    "a text": {"logits": "logits"},
    "actions of heads by step": {"logits": F, "actions": I[:2, :6]},
    "log-probabilities of heads by step": {"logits": F, "log_probs": F[:2, :6], "old_log_probs": F[:, :2]},
    "actions that a head lacks": {"logits": F, "actions": I[:, :2] + 3, "advantages": F[:, 0]},
    "masks with swapped axes": {"logits": TIMES, "masks": M.reshape(3, 2, 7)},
    "padding with swapped axes": {"logits": TIMES, "valid": M[:, 0].reshape(3, 2)},
    "actions with swapped axes": {"logits": TIMES, "actions": I[:, :2].reshape(3, 2, 2)},
    "log-probabilities with swapped axes": {
        "logits": TIMES,
        "log_probs": F[:, 0].reshape(3, 2),
        "old_log_probs": F[:, 0].reshape(2, 3),
    },
    "a head with swapped axes": {"logits": [TIMES[..., :4], TIMES[..., 4:].swapaxes(0, 1)]},
}
"""What does not fit. Among it axes that hold as many numbers, in another order."""


@pytest.mark.parametrize("bad", BAD)
def test_the_first_minibatch_is_refused_in_the_same_words(bad):
    lines = []
    for meter, convert in zip(both({"a": 4, "b": 3}), (lambda value: value, as_tensors), strict=True):
        with pytest.raises((TypeError, ValueError)) as caught:
            meter.add(**{name: convert(value) for name, value in BAD[bad].items()})
        lines.append((caught.type, str(caught.value).replace("tensor", "array")))
        meter.add(convert(F))  # a right one is then taken
        assert meter.result()["entropy"].keys() == {"a", "b"}
    assert lines[0] == lines[1]
    assert "\n" not in lines[0][1]


@pytest.mark.parametrize(
    "operations",
    [("c", None), ("a", (("b",),)), ("a", (("b",), ("x",), (), ()))],
    ids=["unknown head", "too few", "unknown consulted head"],
)
def test_operations_are_refused_in_the_same_words(operations):
    lines = []
    for library in (of_numpy, of_torch):
        with pytest.raises(ValueError, match="heads") as caught:
            library.HeadMeter({"a": 4, "b": 3}, operations=library.Operations(*operations))
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


def test_operations_need_the_actions():
    for meter, logits in zip(
        both({"a": 4, "b": 3}, operations=of_numpy.Operations("a")), (F, torch.tensor(F)), strict=True
    ):
        with pytest.raises(ValueError, match="actions are missing"):
            meter.add(logits)
