"""Crafter with its achievements as instructions (`Heed/Crafter-v0`).

Hafner 2022, "Benchmarking the Spectrum of Agent Capabilities" (arXiv 2109.06780): a small Minecraft seen from above.
An episode tells the player to do one of the achievements, drawn from those that its world allows, and ends with it, or
with the player's death, or after `max_steps`. The reward is 1 for doing it and 0 otherwise; Crafter's own, which
counts health and every achievement, would reward what was not asked for.

What is not as in the `crafter` package: episodes follow the seed (the package keeps creatures in sets, which Python
orders by memory addresses, so that the same seed makes different episodes), the noise of the picture at night is drawn
apart (so that an episode is the same with and without pictures), and worlds are made faster (`crafter_speed`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.envs.contract import language_space
from heed.envs.worlds.crafter.speed import generate_world
from heed.envs.worlds.crafter.words import (
    ACHIEVEMENTS,
    ACTIONS,
    ALL,
    WITHOUT_PREREQUISITES,
    Surroundings,
    chosen_achievements,
    words_for,
)
from heed.envs.worlds.extra import load

crafter = load("crafter")
_Env: Any = crafter.Env

IMAGE_SIZE = 64
"""Pixels of a side of the picture, as Crafter's benchmark has it."""
MAX_STEPS = 500
MOST_WORLDS = 20
"""So many worlds are made in search of one that allows a told achievement."""


class InOrder(dict[Any, None]):
    """A set that remembers in which order its members came."""

    def add(self, member: Any) -> None:
        """Add a member at the end."""
        self[member] = None

    def remove(self, member: Any) -> None:
        """Take a member out."""
        del self[member]


class Game(_Env):  # type: ignore[misc]
    """Crafter's game itself: begun by a seed, without pictures but where they are asked for, and without an end."""

    def __init__(self, area: tuple[int, int]):
        super().__init__(area=area, size=(IMAGE_SIZE, IMAGE_SIZE), length=0, seed=0)
        self._sem_view = lambda: None  # of the whole world, at each step
        self._picture_noise = np.random.RandomState(0)

    def begin(self, seed: int) -> None:
        """Make the world of a seed, and put the player into its middle."""
        world = self._world
        world.reset(seed=seed)
        world._chunks = defaultdict(InOrder)
        self._picture_noise = np.random.RandomState(seed)
        self._step = 0
        self._update_time()
        self._player = crafter.objects.Player(world, (world.area[0] // 2, world.area[1] // 2))
        self._last_health = self._player.health
        self._unlocked: set[str] = set()
        world.add(self._player)
        generate_world(world, self._player)

    def _obs(self) -> None:
        """Draw nothing: most of a step's time."""

    def picture(self, size: int) -> npt.NDArray[np.uint8]:
        """Return what the player sees, shape (size, size, 3)."""
        world = self._world
        kept, world.random = world.random, self._picture_noise
        self._size = np.array((size, size))
        try:
            drawn: npt.NDArray[np.uint8] = self.render()
        finally:
            world.random = kept
        return drawn

    @property
    def unlocked(self) -> frozenset[str]:
        """The achievements of this episode."""
        return frozenset(self._unlocked)

    @property
    def dead(self) -> bool:
        """Whether the player's health is used up."""
        return bool(self._player.health <= 0)

    def kinds_of_ground(self) -> set[str]:
        """Return what ground the world has."""
        return {self._world._mat_names[index] for index in np.unique(self._world._mat_map).tolist()}

    def surroundings(self) -> Surroundings:
        """Return what the player sees: the cells of Crafter's picture."""
        world, player = self._world, self._player
        columns, rows = (int(length) // 2 for length in self._local_view._grid)
        x, y = (int(part) for part in player.pos)
        ground = np.zeros((2 * rows + 1, 2 * columns + 1), np.int64)  # zero is the number of no ground
        left, top = max(x - columns, 0), max(y - rows, 0)
        seen = world._mat_map[left : x + columns + 1, top : y + rows + 1].T
        row, column = top - (y - rows), left - (x - columns)
        ground[row : row + seen.shape[0], column : column + seen.shape[1]] = seen
        names = world._mat_names
        things = []
        for thing in world.objects:
            down, right = int(thing.pos[1]) - y, int(thing.pos[0]) - x
            if thing is not player and abs(down) <= rows and abs(right) <= columns:
                things.append((_name(thing), (down, right)))
        return Surroundings(
            ground=tuple(tuple(names[index] for index in cells) for cells in ground.tolist()),
            things=tuple(things),
            facing=(int(player.facing[1]), int(player.facing[0])),
            inventory=player.inventory,
            daylight=float(world.daylight),
            sleeping=bool(player.sleeping),
        )


def _name(thing: Any) -> str:
    if isinstance(thing, crafter.objects.Plant):
        return "ripe plant" if thing.ripe else "young plant"
    return type(thing).__name__.lower()


class Crafter(gymnasium.Env[dict[str, Any], Any]):
    """Crafter under the instruction to do one of its achievements.

    Args:
        achievements: that are told, in Crafter's names or in words; "all" for all 22. Those that the episode's world
            has no ground for are not told in it.
        area: cells of the world, (columns, rows).
        image: whether the observation has Crafter's picture under `image`, shape (64, 64, 3).
        max_steps: after so many an episode is cut off.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: if an achievement is unknown or told twice, or `max_steps` is not positive.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - Gymnasium's own form
    action_texts = tuple(ACTIONS.values())

    def __init__(
        self,
        achievements: str | Sequence[str] = WITHOUT_PREREQUISITES,
        *,
        area: tuple[int, int] = (64, 64),
        image: bool = False,
        max_steps: int = MAX_STEPS,
        render_mode: str | None = None,
    ):
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, but is {max_steps}.")
        self.achievements = chosen_achievements(achievements)
        self.max_steps = max_steps
        self.render_mode = render_mode
        auxiliary: dict[str, Any] = (
            {"image": spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)} if image else {}
        )
        self.observation_space = language_space(**auxiliary)
        self.action_space = spaces.Discrete(len(ACTIONS))
        self._image = image
        self._game = Game((int(area[0]), int(area[1])))
        self._told = self.achievements[0]
        self._possible: tuple[str, ...] = ()
        self._steps = 0
        self._news: tuple[str, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make a world, and draw one of the achievements that it allows.

        Raises:
            ValueError: if many worlds allow none of the told achievements.
        """
        super().reset(seed=seed)
        for _ in range(MOST_WORLDS):
            self._game.begin(int(self.np_random.integers(2**31 - 1)))
            ground = self._game.kinds_of_ground()
            self._possible = tuple(name for name in self.achievements if ground.issuperset(ACHIEVEMENTS[name].ground))
            if self._possible:
                break
        else:
            raise ValueError(
                f"None of {MOST_WORLDS} worlds of {self._game._area[0]} x {self._game._area[1]} cells allows "
                f"{' or '.join(self.achievements)}: take a larger area, or other achievements."
            )
        self._told = self._possible[int(self.np_random.integers(len(self._possible)))]
        self._steps, self._news = 0, ()
        return self._observation(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act; 1 is the reward for what was told."""
        before = self._game.unlocked
        self._game.step(int(action))
        self._steps += 1
        self._news = tuple(sorted(self._game.unlocked - before))
        success = self._told in self._news
        terminated = success or self._game.dead
        truncated = self._steps >= self.max_steps and not terminated
        return self._observation(), float(success), terminated, truncated, {"is_success": success}

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return a large picture of what the player sees, shape (512, 512, 3); None without a render mode."""
        return self._game.picture(512) if self.render_mode == "rgb_array" else None

    def fulfilled_instructions(self) -> dict[str, float]:
        """Return the instructions whose achievement this last step was the first to do, each with the reward 1."""
        return {ACHIEVEMENTS[name].instruction: 1.0 for name in self._news}

    def possible_instructions(self) -> tuple[str, ...]:
        """Return the told achievements that this world has the ground for, and that can stand in place of the own one.

        Those that come before it would be done on the way, and before those that it comes before the episode has ended.
        """
        first = ACHIEVEMENTS[self._told].first
        others = [name for name in self._possible if name != self._told and name not in first]
        return tuple(ACHIEVEMENTS[name].instruction for name in others if self._told not in ACHIEVEMENTS[name].first)

    def impossible_instructions(self) -> tuple[str, ...]:
        """Return the told achievements that this world has no ground for."""
        return tuple(ACHIEVEMENTS[name].instruction for name in self.achievements if name not in self._possible)

    def _observation(self) -> dict[str, Any]:
        words: dict[str, Any] = {
            "instruction": ACHIEVEMENTS[self._told].instruction,
            "observation": words_for(self._game.surroundings()),
        }
        return {**words, "image": self._game.picture(IMAGE_SIZE)} if self._image else words


def _register(name: str, **kwargs: Any) -> None:
    gymnasium.register(id=f"Heed/{name}-v0", entry_point="heed.envs.worlds.crafter.world:Crafter", kwargs=kwargs)


_register("Crafter")
_register("CrafterPixels", image=True)
_register("CrafterAll", achievements=ALL)
for _achievement in ACHIEVEMENTS:
    _register(f"Crafter{_achievement.title().replace('_', '')}", achievements=(_achievement,))
