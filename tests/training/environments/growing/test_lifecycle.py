"""The life of a slot, over every state that can be reached."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from rl_training.action_space import (
    CANONICAL,
    CONSULTED_HEADS,
    HEAD_NAMES,
    OFFSETS,
    OPERATIONS_TABLE,
    SIZES,
    AlphaCurve,
    AlphaSpeed,
    AlphaTarget,
    Blueprint,
    Operation,
    Slot,
    Style,
    Tempo,
)
from rl_training.environments.growing.lifecycle import (
    DORMANT,
    GROWING,
    PRUNE_AGE,
    Decision,
    IllegalDecisionError,
    SlotState,
    Stage,
    decide,
    dormant_slots,
    is_legal,
    pass_step,
)
from rl_training.environments.growing.masks import action_masks

S, OP = Stage, Operation
TIME = "time"

EDGES = {
    (S.DORMANT, OP.GERMINATE): {S.GERMINATED},
    (S.GERMINATED, OP.ADVANCE): {S.TRAINING},
    (S.GERMINATED, TIME): {S.GERMINATED, S.TRAINING},
    (S.TRAINING, OP.ADVANCE): {S.BLENDING},
    (S.TRAINING, OP.PRUNE): {S.PRUNED},
    (S.TRAINING, TIME): {S.TRAINING, S.BLENDING},
    (S.BLENDING, OP.ADVANCE): {S.HOLDING},
    (S.BLENDING, OP.SET_ALPHA_TARGET): {S.BLENDING},
    (S.BLENDING, OP.PRUNE): {S.PRUNED},
    (S.BLENDING, TIME): {S.BLENDING, S.HOLDING},
    (S.HOLDING, OP.SET_ALPHA_TARGET): {S.BLENDING},
    (S.HOLDING, OP.FOSSILIZE): {S.FOSSILIZED},
    (S.HOLDING, OP.PRUNE): {S.HOLDING, S.PRUNED},
    (S.HOLDING, TIME): {S.HOLDING, S.PRUNED},
    (S.FOSSILIZED, TIME): {S.FOSSILIZED},
    (S.PRUNED, TIME): {S.PRUNED, S.EMBARGOED},
    (S.EMBARGOED, TIME): {S.RESETTING},
    (S.RESETTING, TIME): {S.DORMANT},
    (S.DORMANT, TIME): {S.DORMANT},
}
"""Everything that may happen to a slot; what is not here never does."""


def decisions():
    """Every decision about slot 0 that can matter, but for its blueprint and style."""
    yield Decision(OP.WAIT)
    yield Decision(OP.ADVANCE)
    yield Decision(OP.FOSSILIZE)
    norm = Decision(OP.GERMINATE, blueprint=Blueprint.NORM)
    for tempo, target in itertools.product(Tempo, (AlphaTarget.HALF, AlphaTarget.FULL)):
        yield norm._replace(tempo=tempo, alpha_target=target)
    for speed, curve in itertools.product(AlphaSpeed, (AlphaCurve.LINEAR, AlphaCurve.SIGMOID)):
        yield Decision(OP.PRUNE, alpha_speed=speed, alpha_curve=curve)
        for target in (AlphaTarget.HALF, AlphaTarget.FULL):
            yield Decision(OP.SET_ALPHA_TARGET, alpha_target=target, alpha_speed=speed, alpha_curve=curve)


def key(slot):
    """A state without what grows without bound."""
    return (slot.stage, min(slot.age, PRUNE_AGE), min(slot.stage_age, 9), slot.tempo, slot.ramp, slot.pruning)


def explore():
    """(before, operation or TIME, after) for every decision in every state that a lone slot can reach."""
    waiting, known, edges = [DORMANT], {key(DORMANT)}, []
    while waiting:
        slot = waiting.pop()
        for decision in decisions():
            if decision.operation is OP.WAIT:
                following = slot
            elif is_legal((slot,), decision.operation, 0):
                (following,) = decide((slot,), decision)
                edges.append((slot, decision.operation, following))
            else:
                continue
            after = pass_step(following)
            edges.append((following, TIME, after))
            if key(after) not in known:
                known.add(key(after))
                waiting.append(after)
    return edges


@pytest.fixture(scope="module")
def edges():
    return explore()


def test_every_edge_is_allowed_and_every_allowed_edge_occurs(edges):
    found = {}
    for before, cause, after in edges:
        found.setdefault((before.stage, cause), set()).add(after.stage)
    assert found == EDGES


def test_whatever_the_masks_forbid_is_refused_in_every_state(edges):
    states = {key(after): after for _, cause, after in edges if cause == TIME}
    assert len(states) > 300
    for slot in states.values():
        row = action_masks((slot, SlotState(Stage.FOSSILIZED), SlotState(Stage.FOSSILIZED)))
        for operation in Operation:
            allowed = row[0, operation] and (operation is OP.WAIT or row[operation, OFFSETS[1]])
            if allowed:
                decide((slot,), Decision(operation, blueprint=Blueprint.LORA))
            else:
                with pytest.raises(IllegalDecisionError, match=rf"{operation.name}.*{slot.stage.name}"):
                    decide((slot,), Decision(operation, blueprint=Blueprint.LORA))


def test_alpha_is_0_before_blending_and_stays_in_its_bounds(edges):
    for _, _, after in edges:
        assert 0.0 <= after.alpha <= 1.0
        if after.stage not in {S.BLENDING, S.HOLDING, S.FOSSILIZED}:
            assert after.alpha == 0.0
        if after.stage is S.HOLDING and not after.pruning:
            assert after.alpha == after.ramp.target


def test_alpha_under_way_can_be_neither_redirected_nor_pruned(edges):
    moving = [after for _, _, after in edges if not after.at_rest]
    assert {slot.pruning for slot in moving} == {True, False}
    for slot in moving:
        assert not is_legal((slot,), OP.SET_ALPHA_TARGET, 0)
        assert not is_legal((slot,), OP.PRUNE, 0)
        assert not is_legal((slot,), OP.FOSSILIZE, 0)


def lived(*operations, tempo=Tempo.FAST, target=AlphaTarget.FULL, speed=AlphaSpeed.INSTANT):
    """The stages of slot 0 after each step."""
    slots, stages = dormant_slots(), []
    for operation in operations:
        decision = Decision(operation, Slot.R0C0, Blueprint.NORM, Style.LINEAR_ADD, tempo, target, speed)
        slots = tuple(pass_step(slot) for slot in decide(slots, decision))
        stages.append(slots[0].stage)
    return stages, slots[0]


@pytest.mark.parametrize(("tempo", "steps"), [(Tempo.FAST, 3), (Tempo.STANDARD, 5), (Tempo.SLOW, 8)])
def test_a_module_grows_by_itself_at_its_tempo(tempo, steps):
    stages, slot = lived(OP.GERMINATE, *[OP.WAIT] * 20, tempo=tempo)
    assert stages[: 2 + 2 * steps] == [
        S.GERMINATED,
        *[S.TRAINING] * steps,
        *[S.BLENDING] * steps,
        S.HOLDING,
    ]
    assert set(stages[2 + 2 * steps :]) == {S.HOLDING}
    assert slot.alpha == 1.0
    assert slot.age == 20


def test_advance_skips_ahead():
    stages, slot = lived(OP.GERMINATE, OP.ADVANCE, OP.ADVANCE, OP.ADVANCE, target=AlphaTarget.SEVENTY)
    assert stages == [S.GERMINATED, S.TRAINING, S.BLENDING, S.HOLDING]
    assert slot.alpha == 0.7


@pytest.mark.parametrize(
    ("speed", "steps"), [(AlphaSpeed.INSTANT, 0), (AlphaSpeed.FAST, 3), (AlphaSpeed.SLOW, 8)]
)
def test_pruning_ramps_down_and_frees_the_slot(speed, steps):
    grow = (OP.GERMINATE, OP.ADVANCE, OP.ADVANCE, OP.ADVANCE, OP.WAIT, OP.WAIT)
    stages, slot = lived(*grow, OP.PRUNE, *[OP.WAIT] * (steps + 2), speed=speed)
    assert (
        stages[6:]
        == [*[S.HOLDING] * max(0, steps - 1), S.PRUNED, S.EMBARGOED, S.RESETTING, S.DORMANT][: steps + 3]
    )
    if steps < 2:
        assert slot == SlotState(S.RESETTING)


def test_a_module_is_pruned_from_age_5():
    young = lived(OP.GERMINATE, *[OP.WAIT] * 4, tempo=Tempo.SLOW)[1]
    old = lived(OP.GERMINATE, *[OP.WAIT] * 5, tempo=Tempo.SLOW)[1]
    assert (young.age, old.age) == (4, 5)
    assert not is_legal((young,), OP.PRUNE, 0)
    assert is_legal((old,), OP.PRUNE, 0)


def test_nothing_germinates_while_something_grows():
    for stage in Stage:
        slots = (DORMANT, SlotState(stage), DORMANT)
        assert is_legal(slots, OP.GERMINATE, 0) == (stage not in GROWING)


def test_noop_is_never_germinated():
    with pytest.raises(IllegalDecisionError, match="NOOP grows nothing"):
        decide(dormant_slots(), Decision(OP.GERMINATE))


def test_setting_alpha_changes_style_target_and_stage():
    grown = lived(OP.GERMINATE, OP.ADVANCE, OP.ADVANCE, OP.ADVANCE)[1]
    decision = Decision(
        OP.SET_ALPHA_TARGET,
        style=Style.GATED_GATE,
        alpha_target=AlphaTarget.HALF,
        alpha_speed=AlphaSpeed.FAST,
        alpha_curve=AlphaCurve.COSINE,
    )
    (slot,) = decide((grown,), decision)
    alphas = []
    for _ in range(3):
        slot = pass_step(slot)
        alphas.append(slot.alpha)
    assert alphas == pytest.approx([0.875, 0.625, 0.5])
    assert (slot.stage, slot.style) == (S.HOLDING, Style.GATED_GATE)


def test_masks_allow_canonical_actions_alone_where_a_head_is_not_consulted():
    rng = np.random.default_rng(0)
    segments = [slice(o, o + n) for o, n in zip(OFFSETS, SIZES, strict=True)]
    for _ in range(200):
        slots = tuple(SlotState(Stage(int(rng.integers(len(Stage))))) for _ in Slot)
        masks = action_masks(slots)
        assert (masks[:, segments[0]] == masks[0, segments[0]]).all()
        for operation in Operation:
            for head, segment in zip(HEAD_NAMES, segments, strict=True):
                assert masks[operation, segment].any()
                if head not in CONSULTED_HEADS[operation]:
                    assert (masks[operation, segment] == CANONICAL[segment]).all()
        assert not masks[OP.GERMINATE, segments[2]][Blueprint.NOOP]
    assert OPERATIONS_TABLE.shape == (6, 8)


def test_actions_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="9 is not a valid Operation"):
        Decision.of([9, 0, 0, 0, 0, 0, 0, 0])


def test_the_life_cycle_needs_no_torch():
    probe = "import sys, rl_training.environments.growing.masks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True)
