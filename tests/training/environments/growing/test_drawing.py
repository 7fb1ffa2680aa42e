"""A growing network in words: what a step decided and brought, and the architecture that it grew."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl_training.action_space import CONSULTED_HEADS, HEAD_NAMES, Blueprint, Operation, Style
from rl_training.environments.growing.curves import Ramp
from rl_training.environments.growing.drawing import Outcome, architecture, step_line
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.lifecycle import DORMANT, Decision, SlotState, Stage
from tests.support.playing import SMALL

OUTCOME = Outcome(3, 28, 0.4235, -0.0125, -0.125)
HELD = SlotState(Stage.HOLDING, blueprint=Blueprint.CONV_LIGHT, ramp=Ramp(0.0, 0.7, 3, elapsed=3))


def test_a_step_names_what_its_operation_consults_and_where_slots_are():
    decision = Decision.of([Operation.GERMINATE, 1, 4, 2, 1, 2, 3, 4])
    germinated = SlotState(Stage.GERMINATED, blueprint=Blueprint.DEPTHWISE)
    assert step_line(decision, OUTCOME, (DORMANT, germinated, HELD)) == (
        " 3/28  accuracy  42.4%  -1.2  reward -0.125  GERMINATE R0C1 DEPTHWISE SIGMOID_ADD STANDARD FULL    "
        "R0C1 DEPTHWISE germinated, R0C2 CONV_LIGHT holding 0.70"
    )
    assert step_line(Decision(Operation.WAIT), OUTCOME, (DORMANT,) * 3).endswith("-0.125  WAIT")


@pytest.mark.parametrize("operation", Operation)
def test_a_head_that_the_operation_ignores_is_not_named(operation):
    words = step_line(Decision(operation), OUTCOME, (DORMANT,) * 3).split("reward -0.125")[1].split()
    assert len(words) == len(CONSULTED_HEADS[operation])
    assert words[0] == operation.name


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (replace(HELD, stage=Stage.TRAINING, ramp=Ramp(0.0, 0.7, 3)), "CONV_LIGHT training"),
        (replace(HELD, stage=Stage.FOSSILIZED), "CONV_LIGHT fossilized 0.70"),
        (replace(HELD, pruning=True, ramp=Ramp(0.7, 0.0, 2, elapsed=1)), "CONV_LIGHT pruning 0.35"),
        (SlotState(Stage.EMBARGOED), "embargoed"),
    ],
)
def test_the_life_of_a_slot_in_words(slot, words):
    assert step_line(Decision(Operation.WAIT), OUTCOME, (slot, DORMANT, DORMANT)).endswith(
        f"WAIT{' ' * 50}R0C0 {words}"
    )


@pytest.mark.parametrize(
    ("style", "joined"),
    [
        (Style.LINEAR_ADD, "x + 0.70 m "),
        (Style.LINEAR_MULTIPLY, "x (1 + 0.70 m) "),
        (Style.SIGMOID_ADD, "x + 0.70 tanh(m / 2) "),
        (Style.GATED_GATE, "x + 0.70 g m "),
    ],
)
def test_the_architecture_says_how_each_module_joins_the_host(style, joined):
    slots = (DORMANT, SlotState(Stage.RESETTING), replace(HELD, style=style))
    image, *stages, digit = architecture(slots, [0, 0, 1332], 314, 0.622).splitlines()
    assert image == "image"
    assert stages[1:6:2] == [
        "  ├─ R0C0  empty",
        "  ├─ R0C1  empty (resetting)",
        f"  ├─ R0C2  CONV_LIGHT       {joined.ljust(22)}  holding     1,332 parameters",
    ]
    assert digit == "digit  validation accuracy 62.2%; 1,332 parameters grown beside the host's 314"


def test_the_environment_renders_its_last_step_as_text():
    environment = GrowingNetworkEnv(render_mode="ansi", **SMALL)
    check_env(environment, skip_render_check=True)
    environment.reset(seed=0)
    *_, info = environment.step(
        np.array([Operation.GERMINATE, 2, Blueprint.LORA, *[0] * (len(HEAD_NAMES) - 3)])
    )
    assert info == {}
    assert "GERMINATE R0C2 LORA LINEAR_ADD FAST HALF" in environment.render()
    assert environment.render().endswith("R0C2 LORA germinated")
    assert f"accuracy {environment.accuracy:6.1%}" in environment.render()
    assert GrowingNetworkEnv(**SMALL).render() is None
    with pytest.raises(ValueError, match="render_mode='human' is not possible; give 'ansi'"):
        GrowingNetworkEnv(render_mode="human")
