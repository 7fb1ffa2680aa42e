"""Every number of a whole update, and the parameters after it, equal those of a reference in NumPy.

The rollout is a real one of ``heads``, in float64 so that the two can agree to 1e-6: masks that depend on the
operation, episodes that end inside, by termination and by truncation, and one that began before; a policy that has
moved since it acted; two minibatches of different sizes in each epoch.
"""

import ast
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_exporter import PPOUpdatePayload
from tests.support import update_reference
from tests.support.played_updates import Case, PlayedUpdate
from tests.support.update_reference import UNITS, behaviour_of, lesson, minibatch_loss

SINGLE = "head with a single choice"
CASES = {
    "whole": Case(),
    "single precision": Case(precision=torch.float32),
    "masks of no operation": Case(consult="all"),
    "critic on the trunk of the actor": Case(settings={"critic": "shared"}),
    "an episode begins with the rollout": Case(episode_steps=6),
    "early stop": Case(settings={"target_kl": 0.3}),
    "aborted in its first minibatch": Case(poisoned=(1, 0)),
    "aborted in its second minibatch": Case(poisoned=(2, 1)),
    "without a whole epoch": Case(poisoned=(0, 1)),
    "head without choice": Case(germinate=-30.0),
    SINGLE: Case(),
}
NO_PART_OF_AN_UPDATE = {"heads", "rollout_duration", "update_duration"}
NOTHING_NONFINITE = dict.fromkeys(("nan_steps", "inf_steps", "nan_gradients", "inf_gradients"), 0)
NO_CONTROLLER = dict.fromkeys(
    ("entropy_target", "entropy_coefficient_applied", "entropy_coefficient_proposed", "interventions_raised",
     "interventions_released", "controller_saturated")
)  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)


@cache
def played(case):
    return with_a_single_choice() if case == SINGLE else PlayedUpdate(CASES[case])


def with_a_single_choice():
    """How likely the operation has to be depends on the random numbers, and these on the version of torch."""
    updates = (PlayedUpdate(replace(CASES[SINGLE], germinate=-tenths / 10)) for tenths in range(5, 40))
    return next(update for update in updates if choice_steps(update, "tempo") == pytest.approx(1))


def choice_steps(update, head):
    return update.reference.heads[update.heads.names.index(head)]["choice_share"] * update.rollout.steps


def different(found, expected, tolerance):
    """What of ``found`` is not, to the tolerance, what is expected; both by name."""
    assert set(found) == set(expected)
    return {
        name: (found[name], value)
        for name, value in expected.items()
        if found[name] != (None if value is None else pytest.approx(value, rel=tolerance, abs=tolerance))
    }


def histories(update, head):
    return {
        "entropy_history": update.result.head_entropy_history[head],
        "choice_entropy_history": update.result.head_choice_entropy_history[head],
    }


@every_case
def test_every_run_level_number_is_that_of_the_reference(case):
    """A number that is new in the payload has to be in the reference, too."""
    update = played(case)
    names = {field.name for field in fields(PPOUpdatePayload)} - NO_PART_OF_AN_UPDATE
    found = {name: getattr(update.payload, name) for name in names}
    assert different(found, update.reference.run | update.progress, update.case.tolerance) == {}


@every_case
def test_every_number_of_a_head_is_that_of_the_reference(case):
    update = played(case)
    for head, expected in zip(update.heads, update.reference.heads, strict=True):
        found = asdict(update.payload.heads[head.name]) | histories(update, head.name)
        means = {name: np.mean(expected[f"{name}_history"] or np.nan) for name in ("entropy", "choice_entropy")}
        means = {name: None if np.isnan(mean) else mean for name, mean in means.items()}
        assert (
            different(found, NOTHING_NONFINITE | NO_CONTROLLER | expected | means, update.case.tolerance) == {}
        ), head.name


@every_case
def test_the_parameters_after_it_are_those_of_the_reference(case):
    update = played(case)
    assert different(update.after, update.reference.parameters, update.case.tolerance) == {}
    assert update.result.nonfinite == update.reference.nonfinite == (update.case.poisoned is not None)


@every_case
def test_the_reference_says_of_the_rollout_what_the_policy_said_as_it_acted(case):
    update = played(case)
    whole, _ = lesson(update.experience, update.acted, update.config)
    behaviour = behaviour_of(update.acted, update.experience, whole.masks)
    found = {name: getattr(update.rollout, name).double().numpy() for name in behaviour._fields}
    assert different(found, behaviour._asdict(), update.case.tolerance) == {}
    choice = np.stack([masks.choice for masks in whole.masks], -1)
    assert (update.rollout.choice.numpy() == choice).all()


def test_an_aborted_epoch_counts_nowhere():
    """Its heads' gradients are finite, and its first minibatch moved the policy; still nothing is known of it."""
    aborted, two = played("aborted in its second minibatch"), PlayedUpdate(Case(settings={"epochs": 2}))
    assert aborted.result.nonfinite
    assert aborted.payload.heads == two.payload.heads
    assert aborted.result.head_gradient_norm == two.result.head_gradient_norm
    assert aborted.result.policy_loss == two.result.policy_loss
    assert different(aborted.after, two.after, 1e-3) != {}


def test_a_head_without_choice_has_no_importance_ratio_and_no_choice_entropy():
    """It is open all the same: the one operation that consults it is never taken."""
    update = played("head without choice")
    tempo = update.payload.heads["tempo"]
    assert tempo.importance_ratio_max is tempo.choice_entropy is None
    assert tempo.choice_share == 0.0 < tempo.open_share
    assert tempo.entropy > 0.0
    assert "tempo" not in update.result.head_importance_ratio_max
    assert histories(update, "tempo")["choice_entropy_history"] == ()


def test_the_cases_hold_what_could_go_wrong():
    update = played("whole")
    happened, settings = update.experience, update.config
    whole, _ = lesson(happened, update.acted, settings)
    for number in ("state_information", "state_information_ratio", "advantage_margin", "advantage_margin_t"):
        known = {
            getattr(head, number) is not None
            for case in ("whole", SINGLE)
            for head in played(case).payload.heads.values()
        }
        assert known == {True, False}, number
    assert happened.terminated.any()
    assert happened.truncated.any()
    assert happened.starts[1:].any()
    assert not happened.starts[0].any()
    assert np.abs(happened.state[0]).sum() > 0
    later = played("an episode begins with the rollout").experience
    assert later.starts[0].all()
    assert np.abs(later.state[0]).sum() > 0
    assert any((masks.step != masks.decision).any() for masks in whole.masks)
    assert {len(part) for epoch in update.plan for part in epoch} == {2, 3}
    norms = [step.norm for epoch in update.reference.epochs for step in epoch]
    assert min(norms) < settings.max_gradient_norm < max(norms)
    ratios, advantages = loss_over_all_steps_of("whole")[0].ratios, whole.advantages[..., None]
    assert ((ratios > 1 + settings.clip) & (advantages > 0)).any()
    assert ((ratios < 1 - settings.clip) & (advantages < 0)).any()


def test_the_cases_end_where_they_say():
    ends = {case: len(played(case).reference.epochs) for case in CASES}
    assert ends["whole"] == 3
    assert ends["early stop"] == ends["aborted in its second minibatch"] == 2
    assert ends["aborted in its first minibatch"] == 1
    assert ends["without a whole epoch"] == 0
    assert choice_steps(played(SINGLE), "tempo") == pytest.approx(1)


def loss_over_all_steps_of(case):
    """The reference's loss over the whole rollout, and that loss as a function of the parameters."""
    update = played(case)
    whole, _ = lesson(update.experience, update.acted, update.config)

    def loss(parameters):
        return minibatch_loss(parameters, whole, update.config, update.multipliers)

    return loss(update.before), loss


@pytest.mark.parametrize("case", ["whole", "masks of no operation", SINGLE])
def test_the_gradient_of_the_reference_is_the_slope_of_its_loss(case):
    """By central differences, in one direction of each array of parameters."""
    at, loss = loss_over_all_steps_of(case)
    before = played(case).before
    generator = np.random.default_rng(0)
    for name, array in before.items():
        if name in UNITS:
            continue
        direction = generator.standard_normal(array.shape)
        up, down = (loss(before | {name: array + by * direction}).total for by in (1e-6, -1e-6))
        assert (up - down) / 2e-6 == pytest.approx((at.gradients[name] * direction).sum(), rel=1e-6, abs=1e-8)


def test_the_reference_shares_no_code_with_what_it_judges():
    files = list(Path(update_reference.__file__).parent.glob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {name for name in imported if name.startswith("tests.support.update_reference")}
    assert imported - own == {"math", "typing", "numpy", "scipy.optimize", "scipy.special"}
