"""What environments call their fields and actions, found in attributes, enums and documentation."""

from __future__ import annotations

import enum
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.words.names import action_names, observation_names


class Plain(gymnasium.Env[Any, Any]):
    """Has spaces only."""

    def __init__(
        self,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        **attributes: Any,
    ):
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,))
        self.action_space = action_space or spaces.Discrete(3)
        for name, value in attributes.items():
            setattr(self, name, value)


# -- fields ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("CartPole-v1", ("cart position", "cart velocity", "pole angle", "pole angular velocity")),
        ("MountainCar-v0", ("position of the car along the x-axis", "velocity of the car")),
        ("Pendulum-v1", ("x", "y", "angular velocity")),
        ("FrozenLake-v1", None),
        ("Blackjack-v1", None),
    ],
)
def test_gymnasiums_own_documentation_names_fields(env_id: str, names: tuple[str, ...] | None) -> None:
    assert observation_names(gymnasium.make(env_id)) == names


def test_acrobots_six_fields_have_names() -> None:
    names = observation_names(gymnasium.make("Acrobot-v1"))
    assert names is not None
    assert len(names) == 6
    assert list(names)[0::5] == ["cosine of theta1", "angular velocity of theta2"]


class Documented(Plain):
    """A robot.

    ## Action Space
    | Num | Action        | Min | Max |
    |-----|---------------|-----|-----|
    | 0   | Turn **left** | -1  | 1   |
    | 1   | Turn `right`  | -1  | 1   |

    ## Observation Space
    `arm` is

    | Num | Observation       | Min  |
    |-----|-------------------|------|
    | 0   | Angle; of the arm | -Inf |
    | 1   | Its *speed*       | -Inf |

    and `goal` the place to go to:

    | Num | Observation | Min  |
    |-----|-------------|------|
    | 0   | X           | -Inf |
    | 1   | Y           | -Inf |
    | excluded | Z      | -Inf |
    """


class Inheriting(Documented):
    """Says nothing of fields."""


TWO = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize("kind", [Documented, Inheriting])
def test_a_table_with_a_row_for_each_entry_names_them(kind: type[Plain]) -> None:
    assert observation_names(kind()) == ("angle, of the arm", "its speed")
    assert observation_names(kind(spaces.Box(-1, 1, (3,)))) is None
    assert observation_names(kind(spaces.Box(-1, 1, (2, 2)))) is None


def test_in_a_dict_a_table_belongs_to_the_key_named_last_above_it() -> None:
    space = spaces.Dict(goal=TWO, arm=TWO, other=TWO, kind=spaces.Discrete(2))
    assert observation_names(Documented(space)) == {"arm": ("angle, of the arm", "its speed"), "goal": ("X", "Y")}
    assert observation_names(Plain(space)) is None


def test_rows_that_are_not_all_there_or_are_the_same_name_nothing() -> None:
    class Missing(Plain):
        """
        | Num | Observation |
        |-----|-------------|
        | 0   | angle       |
        | 2   | speed       |
        """

    class Same(Plain):
        """
        | Num | Observation |
        |-----|-------------|
        | 0   | angle       |
        | 1   | Angle       |
        """

    class FromOne(Plain):
        """
        | No. | Observations |
        |-----|--------------|
        | 1   | angle        |
        | 2   | speed        |
        """

    assert observation_names(Missing()) is None
    assert observation_names(Same()) is None
    assert observation_names(FromOne()) == ("angle", "speed")


@pytest.mark.parametrize(
    ("space", "given", "names"),
    [
        (TWO, ["Arm_angle", "speed"], ("Arm angle", "speed")),
        (TWO, np.array(["angle", "speed"]).tolist(), ("angle", "speed")),
        (TWO, ["angle"], None),
        (TWO, ["angle", "angle"], None),
        (TWO, ["angle", 2], None),
        (TWO, "ab", None),
        (spaces.Tuple([TWO, TWO]), ("arm", "leg"), ("arm", "leg")),
        (spaces.MultiBinary(2), ("lamp", "fan"), ("lamp", "fan")),
        (spaces.Dict(a=TWO, b=TWO), {"a": ("x", "y"), "b": ("x",), "c": ("x", "y")}, {"a": ("x", "y")}),
        (spaces.Dict(a=TWO), ("x", "y"), None),
        (spaces.Discrete(2), ("x", "y"), None),
    ],
)
def test_an_attribute_goes_before_the_documentation_if_it_fits(
    space: spaces.Space[Any], given: Any, names: Any
) -> None:
    assert observation_names(Plain(space, observation_names=given)) == names
    assert observation_names(Plain(space, OBSERVATION_NAMES=given)) == names


def test_an_attribute_that_does_not_fit_leaves_the_documentation() -> None:
    assert observation_names(Documented(observation_names=["x"])) == ("angle, of the arm", "its speed")
    assert observation_names(Documented(observation_names=["x", "y"])) == ("x", "y")


# -- actions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("CartPole-v1", ("push cart to the left", "push cart to the right")),
        ("MountainCar-v0", ("accelerate to the left", "don't accelerate", "accelerate to the right")),
        (
            "Acrobot-v1",
            tuple(f"apply {torque} torque to the actuated joint" for torque in (-1, 0, 1)),
        ),
        ("FrozenLake-v1", ("move left", "move down", "move right", "move up")),
        ("CliffWalking-v1", ("move up", "move right", "move down", "move left")),
        ("Blackjack-v1", ("stick", "hit")),
        ("Pendulum-v1", None),  # a torque
        (
            "MiniGrid-Empty-5x5-v0",
            ("left", "right", "forward", "pickup", "drop", "toggle", "done"),
        ),
    ],
)
def test_names_of_gymnasiums_and_minigrids_actions(env_id: str, names: tuple[str, ...] | None) -> None:
    assert action_names(gymnasium.make(env_id)) == names


class Moves(enum.IntEnum):
    STAY_HERE = 0
    GO_LEFT = 1
    GO_RIGHT = 2


NAMES = ("stay here", "go left", "go right")


@pytest.mark.parametrize(
    "attributes",
    [
        {"get_action_meanings": lambda: ["STAY HERE", "GO LEFT", "GO RIGHT"]},
        {"ACTION_MEANING": {0: "STAY_HERE", 1: "GO_LEFT", 2: "GO_RIGHT"}},
        {"ACTION_MEANINGS": {"go right": 2, "go left": 1, "stay here": 0}},
        {"action_names": NAMES},
        {"action_meanings": ["Stay here.", "go left", "go  right"]},
        {"Actions": Moves},
        {"actions": Moves},
        {"actions": list(NAMES)},
        # What is not there, not enough or ambiguous is passed over.
        {"get_action_meanings": lambda: ["a", "a", "b"], "action_names": NAMES},
        {"get_action_meanings": lambda: ["a", "b"], "action_names": NAMES},
        {"get_action_meanings": lambda: ["a", "", "b"], "action_names": NAMES},
        {"ACTION_MEANING": {0: "a", 1: "b", 2: "c", 3: "d"}, "Actions": Moves},
        {"actions": [0, 1, 2], "Action": Moves},
    ],
    ids=lambda attributes: "-".join(attributes),
)
def test_attributes_and_enums_name_actions(attributes: dict[str, Any]) -> None:
    assert action_names(Plain(**attributes)) == NAMES


def test_without_names_that_fit_there_are_none() -> None:
    assert action_names(Plain()) is None
    assert action_names(Plain(action_space=spaces.Discrete(2), action_names=NAMES)) is None
    assert action_names(Plain(action_space=spaces.Discrete(4), Actions=Moves)) is None
    assert action_names(Plain(action_space=spaces.MultiBinary(3), action_names=NAMES)) is None

    def unknown() -> list[str]:
        raise NotImplementedError

    assert action_names(Plain(get_action_meanings=unknown)) is None


def test_an_enum_is_counted_as_the_space_is() -> None:
    assert action_names(Plain(action_space=spaces.Discrete(2), Actions=Moves)) == NAMES[:2]
    assert action_names(Plain(action_space=spaces.Discrete(2, start=1), Actions=Moves)) == NAMES[1:]


def test_a_wrapper_names_its_own_actions() -> None:
    class Fewer(gymnasium.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(Plain(action_names=NAMES))
            self.action_space = spaces.Discrete(2)
            self.action_names = ("walk", "run")

    assert action_names(Fewer()) == ("walk", "run")


def test_lists_in_the_section_on_actions_are_read() -> None:
    class Listed(Plain):
        """Drives.

        Things of the world:
        - 0: a tree
        - 1: a house
        - 2: a dog

        ## Action Space
        If continuous there are 2 actions:
        - 0: steering, from -1 to 1
        - 1: gas

        There are three discrete actions otherwise:
        - 0: Stay here
        - 1: Go left
        - 2: Go right

        ## Goals
        - 0: a flag
        - 1: a tree
        - 2: home
        """

    class OldStyle(Plain):
        """
        Observation:
            Num    Observation
            0      angle
            1      speed
            2      height
        Actions:
            Type: Discrete(3)
            Num   Action
            0     Stay here
            1     Go left
            2     Go right
        """

    class Tabled(Plain):
        """
        | Num | Name | Action    |
        |-----|------|-----------|
        | 0   | stay | Stay here |
        | 1   | left | Go left   |
        | 2   | right | Go right |
        """

    assert action_names(Listed()) == NAMES
    assert action_names(OldStyle()) == NAMES
    assert action_names(Tabled()) == NAMES
    assert action_names(Documented()) is None  # its two rows are a Box's
    assert action_names(Documented(action_space=spaces.Discrete(2))) == ("turn left", "turn right")
