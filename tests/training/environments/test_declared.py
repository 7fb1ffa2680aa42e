"""What a wrapper of an environment declares is used, or refused in one line that names it; never ignored."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_training.environments.adapter import make_environment, make_single
from rl_training.environments.declared import EnvironmentSetupError
from rl_training.run.cli import main


class Plain(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (3,), np.float32), spaces.MultiDiscrete([4, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), float(action[0]), False, False, {}


def broken(*_, **__):
    raise RuntimeError("no\nlicence")


@pytest.fixture
def wrapper():
    """Registers Plain inside a wrapper with these attributes, and a further wrapper; returns the name."""

    def register(**attributes):
        kind = type("Wrapper", (gymnasium.Wrapper,), attributes)
        gymnasium.register(
            "Wrapper-v0",
            lambda: gymnasium.wrappers.TimeLimit(kind(Plain()), 9),
            disable_env_checker=True,
        )
        return "Wrapper-v0"

    yield register
    gymnasium.registry.pop("Wrapper-v0")


NAMES = {"grip": "abcd", "arm": ("in", "out", "up")}


@pytest.mark.parametrize("names", [["grip", "arm"], ("grip", "arm"), np.array(["grip", "arm"]), NAMES])
def test_names_of_a_wrapper_are_used_in_any_sequence(wrapper, names):
    environment = make_environment(wrapper(head_names=names, action_names=NAMES), 1, {})
    assert environment.heads.names == ("grip", "arm")
    assert [head.actions for head in environment.heads] == [("a", "b", "c", "d"), ("in", "out", "up")]


def test_without_names_heads_have_numbers(wrapper):
    assert make_environment(wrapper(), 1, {}).heads.names == ("head_0", "head_1")


ONES = np.ones(7, np.bool_)


def rows(*forbidden):
    """Masks of four operations that allow everything but what lies at these places, or this place."""
    found = np.ones((4, 7), np.bool_)
    for place in forbidden if isinstance(forbidden[0], tuple) else [forbidden]:
        found[place] = False
    return found


NOTHING = "action_masks() allows no action of head 'head_1' in the row"
EVERY_ROW = "allow one, be the operation valid or not"
DIFFER = "rows of action_masks() differ in the actions of head 'head_0', which are the operations; say in each row which of them are valid now"
SHAPES = "; return booleans of shape (7,) or (4, 7): all actions of head_0, head_1 in a row"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"head_names": ["grip"]}, "head_names is ['grip']; give 2 names, one for each head"),
        ({"head_names": []}, "head_names is []; give 2 names, one for each head"),
        ({"head_names": "ab"}, "head_names is 'ab'; give 2 names, one for each head"),
        ({"head_names": 7}, "head_names is 7; give 2 names, one for each head"),
        ({"head_names": ["grip", "grip"]}, "head names ['grip'] occur more than once; give every head its own name"),
        ({"head_names": property(broken)}, "head_names raised RuntimeError: no licence"),
        ({"action_names": {"head_0": "abc"}}, "head 'head_0' has 4 choices but 3 different names of actions; give each action its own name, in order"),
        ({"action_masks": ONES}, "action_masks is of type ndarray; make it a method that returns the masks"),
        ({"action_masks": broken}, "reset() or action_masks() raised RuntimeError: no licence"),
        ({"action_masks": lambda _: ONES, "reset": broken}, "reset() or action_masks() raised RuntimeError: no licence"),
        ({"action_masks": lambda _: ONES[:4]}, f"action_masks() returned bool of shape (4,){SHAPES}"),
        ({"action_masks": lambda _: ONES / 2}, f"action_masks() returned float64 of shape (7,){SHAPES}"),
        ({"action_masks": lambda _: None}, f"action_masks() returned None{SHAPES}"),
        ({"action_masks": lambda _: "mask"}, f"action_masks() returned <U4 of shape (){SHAPES}"),
        ({"action_masks": lambda _: [[True], [True] * 2]}, f"action_masks() returned [[True], [True, True]]{SHAPES}"),
        (
            {"action_masks": lambda _: np.arange(7) < 4},
            "action_masks() allows no action of head 'head_1'; allow one",
        ),
        ({"action_masks": lambda _: np.arange(7) > 3}, "action_masks() allows no action of head 'head_0'; allow one"),
        ({"action_masks": lambda _: rows(slice(None), slice(4))}, "action_masks() allows no action of head 'head_0'; allow one"),
        ({"action_masks": lambda _: rows(2, slice(4, 7))}, f"{NOTHING} of operation '2'; {EVERY_ROW}"),
        ({"action_masks": lambda _: rows(0, slice(4, 7))}, f"{NOTHING} of operation '0'; {EVERY_ROW}"),
        (
            {"action_masks": lambda _: rows((slice(None), 3), (2, slice(4, 7))), "action_names": {"head_0": "abcd"}},
            f"{NOTHING} of operation 'c'; {EVERY_ROW}",
        ),
        (
            {"action_masks": lambda _: rows((slice(None), 3), (3, slice(4, 7)))},
            f"{NOTHING} of operation '3'; {EVERY_ROW}",
        ),
        ({"action_masks": lambda _: rows(2, 2)}, DIFFER),
        ({"action_masks": lambda _: rows(0, 2)}, DIFFER),
        ({"action_masks": lambda _: rows((slice(None), 2), (2, slice(7)))}, DIFFER),
        ({"action_masks": lambda _: np.hstack([np.eye(4), np.ones((4, 3))])}, DIFFER),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_before_training(wrapper, attributes, reason):
    with pytest.raises(EnvironmentSetupError) as error:
        make_environment(wrapper(**attributes), 1, {})
    assert str(error.value) == f"environment 'Wrapper-v0': {reason}"


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["a"], ()),
        ({0: "left"}, ()),
        ({"head_0": 7}, ()),
        ({"head_0": "abcd", "leg": "ab"}, ("a", "b", "c", "d")),
    ],
)
def test_names_of_actions_that_fit_no_head_end_no_training_and_are_said(wrapper, caplog, names, used):
    environment = make_environment(wrapper(action_names=names), 1, {})
    assert environment.heads[0].actions == used
    assert [record.message for record in caplog.records] == [
        f"action_names of the environment is {names!r}; what is no mapping from head_0, head_1 to names of actions "
        "is left out"
    ]


def test_an_error_in_names_of_actions_ends_no_training_and_is_said(wrapper, caplog):
    make_environment(wrapper(action_names=property(broken)), 1, {})
    assert [record.message for record in caplog.records] == [
        "action_names raised RuntimeError: no licence; actions have no names"
    ]


def test_a_replay_refuses_them_as_well(wrapper):
    with pytest.raises(
        EnvironmentSetupError, match=r"^environment 'Wrapper-v0': head_names is 7; give 2 names"
    ):
        make_single(wrapper(head_names=7), {})


def test_masks_that_change_their_shape_are_named(wrapper):
    given = [ONES]
    environment = make_environment(wrapper(action_masks=lambda _: given[0]), 1, {})
    environment.reset(0)
    assert environment.masks().all()
    given[0] = ONES[:6]
    with pytest.raises(EnvironmentSetupError, match=r"action_masks\(\) returned bool of shape \(6,\)"):
        environment.masks()


def test_rows_that_agree_and_allow_something_are_used(wrapper):
    given = rows((slice(None), 2), (2, slice(5, 7)))
    environment = make_environment(wrapper(action_masks=lambda _: given), 2, {})
    environment.reset(0)
    assert (environment.masks() == given).all()


def test_rows_that_differ_later_end_the_run_in_one_line(wrapper, caplog):
    def masks(env):
        env.asked = getattr(env, "asked", 0) + 1
        return rows(2, 2) if env.asked > 20 else rows(2, 4)

    options = ["--num-envs", "2", "--listen", "127.0.0.1:0", "--linger", "0", "--quiet", "--hidden", "8"]
    assert main(["--env", wrapper(action_masks=masks), *options]) == 1
    assert [record.getMessage() for record in caplog.records] == [f"the run failed: {DIFFER}"]


def test_rl_train_says_it_in_one_line(wrapper, capsys):
    assert main(["--env", wrapper(head_names=["grip"]), "--num-envs", "8", "--listen", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == (
        "rl-train: error: environment 'Wrapper-v0': head_names is ['grip']; give 2 names, one for each head\n"
    )
