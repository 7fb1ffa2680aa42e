import math

from rl_training.action_space import (
    CONSULTED_HEADS,
    ENTROPY_MULTIPLIERS,
    HEAD_ACTIONS,
    HEAD_MAX_ENTROPIES,
    HEAD_NAMES,
    HEADS,
    Operation,
)

SIZES = {
    "op": 6,
    "slot": 3,
    "blueprint": 13,
    "style": 4,
    "tempo": 3,
    "alpha_target": 3,
    "alpha_speed": 4,
    "alpha_curve": 5,
}


def test_eight_heads_in_the_specified_order_and_size():
    assert list(HEAD_NAMES) == list(SIZES)
    assert {name: len(actions) for name, actions in HEAD_ACTIONS.items()} == SIZES


def test_maximum_entropies_come_from_the_enums():
    assert {name: math.log(len(actions)) for name, actions in HEAD_ACTIONS.items()} == HEAD_MAX_ENTROPIES
    assert [head.max_entropy for head in HEADS] == list(HEAD_MAX_ENTROPIES.values())


def test_actions_are_numbered_from_zero():
    for actions in HEAD_ACTIONS.values():
        assert [action.value for action in actions] == list(range(len(actions)))


def test_multipliers():
    assert [head.entropy_multiplier for head in HEADS] == [1.0, 1.0, 1.3, 1.2, 1.3, 1.2, 1.2, 1.2]
    assert tuple(ENTROPY_MULTIPLIERS) == HEAD_NAMES


def test_every_operation_consults_op_and_only_declared_heads():
    assert set(CONSULTED_HEADS) == set(Operation)
    for heads in CONSULTED_HEADS.values():
        assert "op" in heads
        assert heads <= set(HEAD_NAMES)
    assert CONSULTED_HEADS[Operation.WAIT] == {"op"}
    assert len(CONSULTED_HEADS[Operation.GERMINATE]) == 6
