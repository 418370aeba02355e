"""Crafter: its words on plain data; with the library also its worlds, its seeds and its achievements."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from heed.envs import UnknownEnvironmentError, check_env, make_env
from heed.envs.contract import fulfilled_instructions_of, impossible_instructions_of, possible_instructions_of
from heed.envs.worlds.crafter.words import (
    ACHIEVEMENTS,
    ACTIONS,
    WITHOUT_PREREQUISITES,
    Surroundings,
    chosen_achievements,
    words_for,
)

LETTERS = {"g": "grass", "t": "tree", "w": "water", "s": "sand", ".": None}
MAP = [
    "....ggggw",
    "....ggggw",
    "ttgggtggg",
    "gggg@gggg",
    "ggggsgggg",
    "ggggggggg",
    "ggggggggs",
]
USE = list(ACTIONS).index("do")
VITALS = {"health": 9, "food": 8, "drink": 7, "energy": 6}


def surroundings(**changes: Any) -> Surroundings:
    ground = tuple(tuple(LETTERS["g" if letter == "@" else letter] for letter in row) for row in MAP)
    plain = Surroundings(ground=ground, things=(), facing=(0, 1), inventory=VITALS, daylight=1.0, sleeping=False)
    return dataclasses.replace(plain, **changes)


def test_surroundings_are_told_from_the_player() -> None:
    assert words_for(surroundings()) == (
        "facing grass right; grass up; sand down; grass left; tree 1 up 1 right; water 2 up 4 right; "
        "health 9; food 8; drink 7; energy 6"
    )


def test_things_night_sleep_and_what_is_carried() -> None:
    things = (("zombie", (2, -3)), ("cow", (1, 0)), ("arrow", (-1, 1)))
    carried = {**VITALS, "wood": 2, "sapling": 0, "wood_pickaxe": 1}
    seen = surroundings(things=things, facing=(1, 0), inventory=carried, daylight=0.3, sleeping=True)
    assert words_for(seen) == (
        "facing cow down; grass up; grass left; grass right; arrow 1 up 1 right; zombie 2 down 3 left; "
        "tree 1 up 1 right; water 2 up 4 right; dark; asleep; carrying 2 wood, 1 wooden pickaxe; "
        "health 9; food 8; drink 7; energy 6"
    )


def test_the_worlds_edge_is_no_ground() -> None:
    rows = [list(row) for row in surroundings().ground]
    rows[2][4] = None
    words = words_for(surroundings(ground=tuple(tuple(row) for row in rows)))
    assert words.startswith("facing grass right; the world's edge up; sand down")


def test_every_achievement_has_words_of_its_own_and_knows_what_comes_first() -> None:
    assert len({achievement.instruction for achievement in ACHIEVEMENTS.values()}) == len(ACHIEVEMENTS) == 22
    assert set(WITHOUT_PREREQUISITES) == {name for name in ACHIEVEMENTS if not ACHIEVEMENTS[name].first} - {
        "defeat_skeleton"
    }
    for name, achievement in ACHIEVEMENTS.items():
        for earlier in achievement.first:
            assert set(ACHIEVEMENTS[earlier].first) < set(achievement.first)
            assert set(ACHIEVEMENTS[earlier].ground) <= set(achievement.ground), name


def test_achievements_may_be_told_in_either_name() -> None:
    assert chosen_achievements(["collect wood", "place_table", "plant a sapling"]) == (
        "collect_wood",
        "place_table",
        "place_plant",
    )
    assert chosen_achievements("all") == tuple(ACHIEVEMENTS)
    with pytest.raises(ValueError, match=r"no achievement 'fly'; it has collect_coal"):
        chosen_achievements(["fly"])
    with pytest.raises(ValueError, match="told twice: eat_cow, eat_cow"):
        chosen_achievements(["eat_cow", "eat a cow"])
    with pytest.raises(ValueError, match="No achievement was told"):
        chosen_achievements([])


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "crafter", None)  # Python's own way to have an import fail
    monkeypatch.delitem(sys.modules, "heed.envs.worlds.crafter.world", raising=False)
    with pytest.raises(UnknownEnvironmentError, match=r"pip install 'heed\[crafter\]'"):
        make_env("Heed/Crafter-v0")


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def crafter(self) -> Any:
        return pytest.importorskip("crafter", reason="Crafter is not installed: pip install 'heed[crafter]'")

    def test_worlds_are_crafters_own(self, crafter: Any) -> None:
        from heed.envs.worlds.crafter.speed import generate_world

        def world_and_player() -> tuple[Any, Any]:
            world = crafter.engine.World((24, 40), crafter.constants.materials, (12, 12))
            world.reset(seed=7)
            player = crafter.objects.Player(world, (12, 20))
            world.add(player)
            return world, player

        def all_of(world: Any) -> tuple[Any, ...]:
            return (
                world._mat_map.tolist(),
                [(type(thing), *thing.pos) for thing in world.objects],
                world.random.uniform(),
            )

        ours, theirs = world_and_player(), world_and_player()
        generate_world(*ours)
        crafter.worldgen.generate_world(*theirs)
        assert all_of(ours[0]) == all_of(theirs[0])

    def test_noise_is_opensimplex_wherever_it_is_certain(self) -> None:
        from opensimplex import OpenSimplex  # type: ignore[import-not-found, unused-ignore]

        from heed.envs.worlds.crafter.speed import simplex_noise

        simplex = OpenSimplex(seed=5)
        x, y, z = np.random.default_rng(0).uniform(-20, 20, (3, 2000))
        values, certain = simplex_noise(x, y, z, simplex._perm, simplex._perm_grad_index3)
        expected = np.array([simplex.noise3(*point) for point in zip(x, y, z, strict=True)])
        assert certain.mean() > 0.99
        np.testing.assert_allclose(values[certain], expected[certain], atol=1e-12)

    def test_it_keeps_the_contract(self) -> None:
        checks = check_env(lambda: make_env("Heed/Crafter-v0", area=(24, 24), max_steps=60), episodes=2)
        assert [check for check in checks if not check.passed] == []

    def test_an_episode_is_the_same_with_pictures(self) -> None:
        words = []
        for image in (False, True):
            env = make_env("Heed/Crafter-v0", area=(24, 24), image=image)
            observation, _ = env.reset(seed=3)
            told = [observation["observation"]]
            for step in range(250):  # into the first night, whose noise the picture draws
                observation, *_ = env.step((step * 7) % 6)
                told.append(observation["observation"])
            words.append(told)
        assert any("dark" in text for text in words[0])
        assert words[0] == words[1]
        assert env.observation_space.contains(observation)
        assert observation["image"].shape == (64, 64, 3)

    def test_a_large_picture_may_be_drawn(self) -> None:
        env = make_env("Heed/CrafterPixels-v0", area=(16, 16), render_mode="rgb_array")
        small = env.reset(seed=0)[0]["image"]
        large: Any = env.render()
        assert large.shape == (512, 512, 3)
        # Cells are 7 and 56 pixels wide, within borders of 0 and 4.
        assert abs(large[4:508, 4:508].mean() - small[:63, :63].mean()) < 5

    def test_collecting_wood_is_a_success_and_is_fulfilled_once(self) -> None:
        env = make_env("Heed/CrafterCollectWood-v0", area=(24, 24))
        env.reset(seed=0)
        assert fulfilled_instructions_of(env)() == {}
        game: Any = env.unwrapped._game  # type: ignore[attr-defined]
        x, y = game._player.pos
        game._world[x, y + 1] = "tree"  # the player faces down
        observation, reward, terminated, truncated, info = env.step(USE)
        assert observation["instruction"] == "collect wood"
        assert "carrying 1 wood" in observation["observation"]
        assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)
        assert fulfilled_instructions_of(env)() == {"collect wood": 1.0}

    def test_what_was_not_told_is_fulfilled_but_earns_nothing(self) -> None:
        env = make_env("Heed/Crafter-v0", achievements=["drink water", "collect wood"], area=(24, 24))
        told = set()
        for seed in range(6):
            observation, _ = env.reset(seed=seed)
            told.add(observation["instruction"])
            possible = possible_instructions_of(env)
            impossible = impossible_instructions_of(env)
            assert possible is not None
            assert impossible is not None
            assert {observation["instruction"], *possible(), *impossible()} == {"drink water", "collect wood"}
        assert len(told) == 2
        game: Any = env.unwrapped._game  # type: ignore[attr-defined]
        x, y = game._player.pos
        game._world[x, y + 1] = "tree" if observation["instruction"] == "drink water" else "water"
        _, reward, terminated, _, info = env.step(USE)
        assert (reward, terminated, info["is_success"]) == (0.0, False, False)
        assert list(fulfilled_instructions_of(env)().values()) == [1.0]
        env.step(USE)
        assert fulfilled_instructions_of(env)() == {}

    def test_what_comes_before_or_after_it_does_not_stand_in_its_place(self) -> None:
        env: Any = make_env("Heed/CrafterAll-v0", area=(9, 9)).unwrapped
        listed = {}
        for told in ACHIEVEMENTS:
            env._possible, env._told = tuple(ACHIEVEMENTS), told  # a world that allows all
            listed[told] = set(env.possible_instructions())
            for name, achievement in ACHIEVEMENTS.items():
                apart = name != told and name not in ACHIEVEMENTS[told].first and told not in achievement.first
                assert (achievement.instruction in listed[told]) == apart
        possible = listed["make_wood_pickaxe"]
        assert not {"collect wood", "place a table", "collect stone", "collect a diamond"} & possible
        assert {"make a wooden sword", "drink water", "collect a sapling"} <= possible

    def test_death_and_the_limit_end_episodes(self) -> None:
        env = make_env("Heed/Crafter-v0", area=(24, 24), max_steps=2)
        env.reset(seed=0)
        assert env.step(0)[2:4] == (False, False)
        assert env.step(0)[2:4] == (False, True)
        env.reset(seed=0)
        env.unwrapped._game._player.health = 0  # type: ignore[attr-defined]
        assert env.step(0)[2:4] == (True, False)

    def test_a_world_that_never_allows_it_is_told(self) -> None:
        env = make_env("Heed/CrafterCollectDiamond-v0", area=(5, 5))
        with pytest.raises(ValueError, match=r"None of 20 worlds of 5 x 5 cells allows collect_diamond: take a larger"):
            env.reset(seed=0)
        with pytest.raises(ValueError, match="limit must be at least 1 step"):
            make_env("Heed/Crafter-v0", max_steps=0)
