"""The faster methods do what MiniGrid's and BabyAI's own do, to the byte."""

import copy
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Floor, Goal, Key, Lava, Wall, WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel
from minigrid.minigrid_env import MiniGridEnv

from heed.envs.babyai import speed as minigrid_speed
from heed.envs.babyai.speed import PositionUpdates, speed_up
from heed.envs.make import make_env
from tests.sampling import sampled

PICK_UP, DROP = 3, 4

# MiniGrid's wave-function-collapse levels miss their data files in the package itself.
IDS = sorted(name for name in gymnasium.registry if re.match("BabyAI-|MiniGrid-(?!WFC)", name))


def plain(env_id: str, **kwargs: Any) -> Any:
    """Make a level with nothing around it and nothing of ours in it; being faster is up to the test."""
    return gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped


def assert_same_view(env: Any) -> None:
    fast, own = env.gen_obs(), MiniGridEnv.gen_obs(env)
    assert list(fast) == list(own)
    assert (fast["direction"], fast["mission"]) == (own["direction"], own["mission"])
    assert (fast["image"].dtype, fast["image"].shape) == (own["image"].dtype, own["image"].shape)
    assert np.array_equal(fast["image"], own["image"]), (env.agent_pos, env.agent_dir, str(env))
    assert fast["image"].flags.writeable


@pytest.mark.parametrize("env_id", sampled(IDS, 24))
@pytest.mark.filterwarnings("ignore:.*is out of date", "ignore:.*deprecated")
def test_view_in_every_level(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    env, random = plain(env_id), np.random.default_rng(0)
    speed_up(env)
    env.reset(seed=0)
    for action in random.integers(env.action_space.n, size=40):
        assert_same_view(env)
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()


def any_thing(random: np.random.Generator) -> WorldObj:
    color = str(random.choice(["red", "green", "blue", "purple", "yellow", "grey"]))
    kinds = (
        lambda: Wall(color),
        lambda: Floor(color),
        lambda: Ball(color),
        lambda: Key(color),
        lambda: Box(color, Key(color)),
        lambda: Door(color),
        lambda: Door(color, is_open=True),
        lambda: Door(color, is_locked=True),
        Goal,
        Lava,
    )
    return kinds[random.integers(len(kinds))]()


class Clutter(MiniGridEnv):
    """Anything anywhere, also on the grid's edge and under the agent."""

    def __init__(self, width: int, height: int, **kwargs: Any):
        super().__init__(MissionSpace(lambda: "look"), width=width, height=height, **kwargs)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.agent_pos, self.agent_dir, self.mission = (1, 1), 0, "look"

    def fill(self, density: float, random: np.random.Generator) -> None:
        for index in range(self.width * self.height):
            self.grid.grid[index] = any_thing(random) if random.random() < density else None


@pytest.mark.parametrize("view_size", [3, 5, 7, 9])
@pytest.mark.parametrize("see_through_walls", [False, True])
def test_view_from_every_pose_in_clutter(view_size: int, see_through_walls: bool) -> None:
    random = np.random.default_rng(view_size)
    env = Clutter(6, 9, agent_view_size=view_size, see_through_walls=see_through_walls)
    speed_up(env)
    env.reset(seed=0)
    carried: Any
    for density in (0.05, 0.2, 0.5):
        env.fill(density, random)
        for pose in np.ndindex(6, 9, 4):
            env.agent_pos, env.agent_dir = pose[:2], pose[2]
            carried = any_thing(random) if random.random() < 0.5 else None
            env.carrying = carried
            assert_same_view(env)


def test_what_hides_and_what_does_not() -> None:
    """A door hides what is behind it until it is opened, though its view has been looked up before."""
    env: Any = Clutter(9, 9)
    speed_up(env)
    env.reset(seed=0)
    door = Door("red")
    env.agent_pos, env.agent_dir = (1, 4), 0
    env.grid.vert_wall(2, 0)
    env.grid.set(2, 4, door)
    env.grid.set(4, 4, Ball("blue"))
    seen = []
    for door.is_open in (False, True, False):
        assert_same_view(env)
        seen.append(env.gen_obs()["image"][3, 3, 0] == Ball("blue").encode()[0])
    assert seen == [False, True, False]


@pytest.mark.parametrize("env_id", ["BabyAI-BossLevel-v0", "MiniGrid-DoorKey-8x8-v0"])
def test_view_size_of_a_level(env_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    env, random = plain(env_id, agent_view_size=5), np.random.default_rng(1)
    speed_up(env)
    image = env.reset(seed=1)[0]["image"]
    assert image.shape == (5, 5, 3)
    for action in random.integers(env.action_space.n, size=100):
        env.step(action)
        assert_same_view(env)


class OwnView(Clutter):
    def gen_obs_grid(self, agent_view_size: int | None = None) -> Any:
        grid, mask = super().gen_obs_grid(agent_view_size)  # type: ignore[no-untyped-call]
        grid.set(0, 0, Goal())
        return grid, mask | True


class OwnGrid(Grid):
    def encode(self, vis_mask: Any = None) -> Any:
        return super().encode(vis_mask) + np.uint8(100)

    def slice(self, *place_and_size: int) -> Grid:
        cut = OwnGrid(*place_and_size[2:])
        cut.grid = super().slice(*place_and_size).grid
        return cut

    def rotate_left(self) -> Grid:
        turned = OwnGrid(self.height, self.width)
        turned.grid = super().rotate_left().grid
        return turned


def test_what_others_draw_their_own_way_stays() -> None:
    env = OwnView(5, 5)
    speed_up(env)
    assert "gen_obs" not in vars(env)

    own_grid: Any = Clutter(5, 5)
    speed_up(own_grid)
    own_grid.reset(seed=0)
    own_grid.grid = OwnGrid(5, 5)
    assert_same_view(own_grid)
    assert own_grid.gen_obs()["image"].min() == 100

    patched: Any = Clutter(5, 5)
    patched.gen_obs = lambda: {"mission": "mine"}
    speed_up(patched)
    assert patched.gen_obs() == {"mission": "mine"}


def test_a_copy_looks_with_its_own_eyes() -> None:
    env = plain("BabyAI-GoToRedBallNoDists-v0")
    speed_up(env)
    env.reset(seed=0)
    other = copy.deepcopy(env)
    other.agent_dir = (env.agent_dir + 1) % 4
    assert_same_view(other)
    assert not np.array_equal(other.gen_obs()["image"], env.gen_obs()["image"])
    assert other.update_objs_poss._level is other


@pytest.mark.parametrize(
    "env_id",
    [
        "BabyAI-GoToLocal-v0",
        "BabyAI-PutNextS5N2Carrying-v0",
        "BabyAI-PutNextLocal-v0",
        "BabyAI-SynthSeq-v0",
        "BabyAI-BossLevel-v0",
        "BabyAI-GoToImpUnlock-v0",
        "MiniGrid-DoorKey-5x5-v0",
        "MiniGrid-ObstructedMaze-2Dlhb-v1",
        "MiniGrid-Dynamic-Obstacles-8x8-v0",
    ],
)
def test_same_seeds_give_the_same_episodes(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, rewards, ends, what the instruction follows, and the state of the random generator."""
    fast = make_env(env_id)
    monkeypatch.setattr("heed.envs.babyai.words.speed_up", lambda env: None)
    own = make_env(env_id)
    assert "gen_obs" in vars(fast.unwrapped)
    assert "gen_obs" not in vars(own.unwrapped)
    # Picking up and dropping more often than by chance: that is where positions change.
    actions = np.random.default_rng(2).choice([0, 1, 2, 2, 2, 3, 3, 4, 4, 5], size=400) % own.action_space.n  # type: ignore[attr-defined]
    ended, seed = True, 0
    for action in actions:
        if ended:
            assert fast.reset(seed=seed) == own.reset(seed=seed)
            seed += 1
        result = fast.step(action)
        assert result == own.step(action)
        assert followed(fast) == followed(own)
        assert random_state(fast) == random_state(own)
        ended = result[2] or result[3]


def followed(env: gymnasium.Env[Any, Any]) -> list[Any]:
    """Return the positions of the things in the level's instruction."""
    parts, positions = [getattr(env.unwrapped, "instrs", None)], []
    while parts:
        part = parts.pop()
        parts += [getattr(part, name) for name in ("instr_a", "instr_b") if hasattr(part, name)]
        positions += [
            getattr(part, name).obj_poss for name in ("desc", "desc_move", "desc_fixed") if hasattr(part, name)
        ]
    return positions


def random_state(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    return dict(env.unwrapped.np_random.bit_generator.state)


def test_positions_are_searched_for_when_cells_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """BabyAI learns that a thing was picked up on the next drop only, which may drop nothing: that stays so."""
    level = plain("BabyAI-GoToRedBallNoDists-v0")
    speed_up(level)
    assert isinstance(level.update_objs_poss, PositionUpdates)
    level.reset(seed=0)
    searches = []
    search: Any = RoomGridLevel.update_objs_poss
    monkeypatch.setattr(RoomGridLevel, "update_objs_poss", lambda *args: searches.append(search(*args)))

    (x, y) = ball = level.instrs.desc.obj_poss[0]
    level.grid.set(x, y + 1, None)
    level.agent_pos, level.agent_dir = (x, y + 1), 3
    level.step(PICK_UP)
    assert level.carrying is not None
    assert level.instrs.desc.obj_poss == [ball]  # not learnt yet
    level.grid.set(x, y, Wall())
    level.step(DROP)
    assert level.carrying is not None
    assert level.instrs.desc.obj_poss == []
    assert len(searches) == 1
    level.step(DROP)
    level.step(DROP)
    assert len(searches) == 1
    level.grid.set(x, y, None)
    level.step(DROP)
    assert level.instrs.desc.obj_poss == [ball]
    assert len(searches) == 2


def outcome(check: Any, level: Any, raise_exc: bool) -> Any:
    try:
        return check(level, raise_exc)
    except RejectSampling as error:
        return str(error)


def test_reachable_things_are_those_of_babyai() -> None:
    level, random = plain("BabyAI-GoToLocal-v0"), np.random.default_rng(3)
    level.reset(seed=0)
    outcomes = set()
    for _ in range(400):
        # No walls around: a step out of the grid must not come in on the other side.
        level.grid = Grid(int(random.integers(3, 9)), int(random.integers(3, 9)))
        cells = level.grid.width * level.grid.height
        walls, things = random.random(2) * (0.6, 0.1)
        for index in range(cells):
            chance = random.random()
            level.grid.grid[index] = (
                Wall() if chance < walls else any_thing(random) if chance < walls + things else None
            )
        level.agent_pos = (int(random.integers(level.grid.width)), int(random.integers(level.grid.height)))
        for raise_exc in (True, False):
            fast = outcome(minigrid_speed.check_objs_reachable, level, raise_exc)
            assert fast == outcome(RoomGridLevel.check_objs_reachable, level, raise_exc)
            outcomes.add(fast)
    assert {True, False} < outcomes  # and some messages
