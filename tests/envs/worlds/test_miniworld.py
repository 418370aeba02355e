"""MiniWorld: what is in view, on plain floor plans; with the library also that its own renderer sees the same."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest

from heed.envs import UnknownEnvironmentError, check_env, make_env
from heed.envs.words.verbalize import VerbalizedEnv
from heed.envs.worlds.miniworld.sight import Thing, View, distance_to_wall, is_in_view, words_for
from heed.envs.worlds.miniworld.tasks import GoToThing

# A room of 10 x 10 metres, and in it a screen from (5, 3) to (5, 5).
CORNERS = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]
ROOM = np.array([*pairwise(CORNERS), ((5, 3), (5, 5))], float)


def view(*things: Thing, direction: float = 0.0, place: tuple[float, float] = (2.0, 4.0)) -> View:
    """Look from (2, 4) to the east, 60 degrees wide and high, from 1.5 m above the floor."""
    sixty = math.radians(60)
    return View(place=place, direction=direction, width=sixty, height=sixty, eye=1.5, things=things, walls=ROOM)


def box(x: float, z: float, **more: Any) -> Thing:
    return Thing(name="red box", place=(x, z), **{"top": 0.8, **more})


def test_walls_are_as_far_as_they_are() -> None:
    assert distance_to_wall((2, 4), 0.0, ROOM) == pytest.approx(3)
    assert distance_to_wall((2, 4), math.pi / 2, ROOM) == pytest.approx(4)  # to the left, which is north
    assert distance_to_wall((2, 4), math.pi, ROOM) == pytest.approx(2)
    assert distance_to_wall((2, 8), math.pi / 4, ROOM) == pytest.approx(8 * math.sqrt(2))
    assert distance_to_wall((2, 4), 0.0, ROOM[:0]) == math.inf
    assert distance_to_wall((12, 4), 0.0, ROOM) == math.inf


def test_things_are_told_by_angle_and_distance_the_nearest_first() -> None:
    far = Thing(name="blue key", place=(2 + 4 * math.cos(0.5), 4 - 4 * math.sin(0.5)), top=0.35)
    assert words_for(view(far, box(4.6, 4.0))) == [
        "red box straight ahead 2.6 m",
        "blue key 30 degrees left 4.0 m",
        "wall 3.0 m ahead, 8.0 m at 30 degrees left, 9.2 m at 30 degrees right",
    ]


@pytest.mark.parametrize(
    ("thing", "seen"),
    [
        (box(4.5, 4.0), True),
        (box(7.0, 4.0), False),  # behind the screen
        (box(7.0, 4.0, radius=4.0), True),  # reaches out on both sides of it
        (box(1.0, 4.0), False),  # behind the back
        (box(4.0, 6.0), False),  # 45 degrees to the right
        (box(3.0, 4.0), False),  # below the picture: 1 m away one sees what is higher than 0.92 m
        (box(3.0, 4.0, top=1.0), True),
        (box(3.0, 4.0, bottom=2.2, top=3.0), False),  # above the picture
        (Thing(name="sign", place=(5.0, 4.0), bottom=1.0, top=2.0, front=math.pi), True),  # on the screen, facing us
        (Thing(name="sign", place=(5.0, 4.0), bottom=1.0, top=2.0, front=0.0), False),
    ],
)
def test_what_is_in_view(thing: Thing, seen: bool) -> None:
    assert is_in_view(view(), thing) is seen


def test_of_many_things_the_nearest_are_told() -> None:
    words = words_for(view(*(box(4.8, 3.5 + 0.1 * step) for step in range(11))))
    assert words[0] == "red box straight ahead 2.8 m"
    assert words[8:-1] == ["3 more further away"]


def test_the_view_turns_with_the_direction() -> None:
    assert words_for(view(box(2.0, 1.0), direction=math.pi / 2))[0] == "red box straight ahead 3.0 m"
    assert words_for(view(box(2.0, 1.0), direction=math.radians(110)))[0] == "red box 20 degrees right 3.0 m"
    assert words_for(view(box(0.5, 4.0), direction=-math.pi + 0.1, place=(4.5, 4.0)))[0].startswith("red box 5 degrees")


class Things(gymnasium.Env[Any, Any]):
    """Two entities on a line; the action says where one stands."""

    observation_space = gymnasium.spaces.Discrete(10)
    action_space = gymnasium.spaces.Discrete(10)

    def __init__(self) -> None:
        self.entities = {"red box": 3, "blue key": 7}
        self.place = 0

    def near(self, entity: str) -> bool:
        return self.entities[entity] == self.place

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        self.place = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place = action
        return action, -5.0, False, False, {}


def test_a_world_without_a_task_is_told_to_go_to_one_of_its_things() -> None:
    env = GoToThing(Things(), str)
    goals = set()
    for seed in range(8):
        env.reset(seed=seed)
        goals.add(env.goal)
        env.reset(seed=seed)
    assert goals == {"red box", "blue key"}
    (other,) = goals - {env.goal}
    assert env.instruction() == f"go to the {env.goal}"
    assert env.possible_instructions() == (f"go to the {other}",)
    places = {"red box": 3, "blue key": 7}
    assert env.step(places[other])[1:3] == (0.0, False)
    assert env.fulfilled_instructions() == {f"go to the {other}": 1.0}
    env.step(places[other])
    assert env.fulfilled_instructions() == {}
    assert env.step(places[env.goal])[1:3] == (1.0, True)


def test_what_the_agent_stands_at_from_the_start_is_not_possible() -> None:
    world = Things()
    world.entities = {"red box": 0, "blue key": 7, "green ball": 0, "duck": 4}
    env = GoToThing(world, str)
    for seed in range(6):
        env.reset(seed=seed)
        assert env.goal in ("blue key", "duck")
        (other,) = {"blue key", "duck"} - {env.goal}
        assert env.possible_instructions() == (f"go to the {other}",)
        env.step(3)  # nothing is there, and the list is still that of the episode's beginning
        assert env.possible_instructions() == (f"go to the {other}",)
    env.step(0)
    assert env.fulfilled_instructions() == {}  # it was there before


def test_of_things_with_one_name_each_is_that_thing() -> None:
    world = Things()
    world.entities = {"red box 1": 3, "red box 2": 7, "duck": 5}
    env = GoToThing(world, lambda name: name.rstrip(" 12"))
    seed = 0
    while env.goal != "red box":
        seed += 1
        env.reset(seed=seed)
    for place in (3, 7):
        env.reset(seed=seed)
        assert env.possible_instructions() == ("go to the duck",)
        assert env.step(place)[1:3] == (1.0, True)


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyglet", None)
    monkeypatch.delitem(sys.modules, "heed.envs.worlds.miniworld.world", raising=False)
    with pytest.raises(UnknownEnvironmentError, match=r"pip install 'heed\[miniworld\]'"):
        make_env("MiniWorld-Hallway-v0")


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def world(self) -> Any:
        pytest.importorskip("pyglet", reason="MiniWorld is not installed: pip install 'heed[miniworld]'")
        try:
            from heed.envs.worlds.miniworld import world as miniworld
        except ModuleNotFoundError as error:
            pytest.skip(str(error))
        return miniworld

    def test_it_keeps_the_contract(self) -> None:
        assert [check for check in check_env("MiniWorld-OneRoomS6Fast-v0", episodes=2) if not check.passed] == []
        assert [check for check in check_env("MiniWorld-Sign-v0", episodes=2) if not check.passed] == []

    def test_every_id_has_an_instruction(self, world: Any) -> None:
        ids = [env_id for env_id in gymnasium.registry if env_id.startswith("MiniWorld-")]
        assert len(ids) == 23
        fixed = {env_id.split("-")[1] for env_id in ids} - {"PickupObjects", "RoomObjects", "Sign", "ThreeRooms"}
        from heed.envs.worlds.miniworld.tasks import FIXED

        assert set(FIXED) == fixed

    @pytest.mark.parametrize("env_id", ["MiniWorld-PickupObjects-v0", "MiniWorld-Sign-v0"])
    def test_what_is_in_view_is_what_the_renderer_sees(self, world: Any, env_id: str) -> None:
        env: Any = make_env(env_id)
        chance = np.random.default_rng(0)
        agreed: Counter[tuple[bool, bool]] = Counter()
        for seed in range(3):
            env.reset(seed=seed)
            for _ in range(10):
                env.step(int(chance.integers(3)))
                seen, looking = env.unwrapped.get_visible_ents(), env.verbalizer._view()
                for entity in env.unwrapped.entities:
                    if world.goal_name_of(entity):  # what hangs on a wall, half of such a cube would be in it
                        x, y, z = entity.pos
                        # The renderer asks for a small cube at the place of each.
                        cube = Thing(name="cube", place=(x, z), radius=0.1, bottom=y, top=y + 0.2)
                        agreed[entity in seen, is_in_view(looking, cube)] += 1
        assert agreed[True, True] > 5
        # They differ over cubes of which less than a half is in the picture.
        assert agreed[False, True] == 0
        assert agreed[True, False] <= 0.05 * agreed.total()

    def test_environments_side_by_side_draw_their_own_rooms(self) -> None:
        """MiniWorld's own share one display list in a process, so that each draws the rooms that were made last."""
        ids = ("MiniWorld-PickupObjects-v0", "MiniWorld-ThreeRooms-v0")

        def pictures(env: Any) -> Any:
            observation, _ = env.reset(seed=1)
            for action in (0, 0, 2):
                yield observation["image"].copy()
                observation, *_ = env.step(action)

        alone = [list(pictures(make_env(env_id))) for env_id in ids]
        together = zip(*[pictures(make_env(env_id)) for env_id in ids], strict=True)
        for expected, drawn in zip(zip(*alone, strict=True), together, strict=True):
            np.testing.assert_array_equal(expected, drawn)

    def test_a_sign_and_a_goal_are_drawn_unless_they_are_told(self) -> None:
        env = make_env("MiniWorld-Sign-v0")
        drawn = set()
        for seed in range(12):
            observation, _ = env.reset(seed=seed)
            drawn.add((observation["instruction"], env.unwrapped._color_index))  # type: ignore[attr-defined]
        assert {color for _, color in drawn} == {0, 1, 2}
        assert {words.split()[3] for words, _ in drawn} == {"box", "key"}
        told = make_env("MiniWorld-Sign-v0", color_index=2, goal=1)
        assert told.reset(seed=0)[0]["instruction"] == "go to the key of the colour that the sign on the wall says"
        assert told.unwrapped._color_index == 2  # type: ignore[attr-defined]

    def test_the_picture_is_an_auxiliary_observation_which_may_be_left_out(self, world: Any) -> None:
        plain = gymnasium.make("MiniWorld-Hallway-v0", disable_env_checker=True)
        env = VerbalizedEnv(world.MiniWorldVerbalizer(plain, words="none"))
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)
        assert observation["observation"] == "look at the picture"
        assert observation["image"].shape == (60, 80, 3)  # type: ignore[typeddict-item]
        with pytest.raises(ValueError, match="must be one of entities, none"):
            world.MiniWorldVerbalizer(plain, words="all")
