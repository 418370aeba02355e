"""What MiniWorld's environments are about, in words; wrappers for those that have no task, or never vary it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

RED_BOX = "go to the red box"

FIXED = {
    "CollectHealth": "stay alive: pick up a medical kit before your health is used up",
    "FourRooms": "go to the red box in one of the four rooms",
    "Hallway": "go to the red box at the end of the hallway",
    "Maze": "find the way through the maze to the red box",
    "MazeS2": "find the way through the maze to the red box",
    "MazeS3": "find the way through the maze to the red box",
    "MazeS3Fast": "find the way through the maze to the red box",
    "OneRoom": RED_BOX,
    "OneRoomS6": RED_BOX,
    "OneRoomS6Fast": RED_BOX,
    "PutNext": "put the red box next to the yellow box",
    "Sidewalk": "go along the sidewalk to the red box, and keep off the street",
    "TMaze": "go to the red box at one of the ends of the crossing hallway",
    "TMazeLeft": "go down the hallway and left to the red box",
    "TMazeRight": "go down the hallway and right to the red box",
    "WallGap": "go through the gap in the wall to the red box",
    "YMaze": "go to the red box at the end of one of the two arms",
    "YMazeLeft": "go to the red box at the end of the left arm",
    "YMazeRight": "go to the red box at the end of the right arm",
}
"""One instruction for each environment that has one task; by the names in MiniWorld's ids."""

SIGN_COLORS = ("blue", "red", "green")
SIGN_SHAPES = ("box", "key")
"""In the order of the numbers that the sign's environment takes."""

ROOM_OBJECTS_STEPS = 250
"""Of an episode of RoomObjects, which has no time limit of its own."""


TASK = 0x7A5C
"""Sets the draw of an episode's task apart from the world's, which comes from the same seed."""


class SignDrawn(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Sign with another sign and goal in each episode, drawn by its seed; its own are those it was made with."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._chance = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw what the sign says and what is looked for, and start an episode."""
        if seed is not None:
            self._chance = np.random.default_rng((seed, TASK))
        world: Any = self.env.unwrapped
        world.set_color_index(int(self._chance.integers(len(SIGN_COLORS))))
        world._goal = int(self._chance.integers(len(SIGN_SHAPES)))
        return self.env.reset(seed=seed, options=options)


class GoToThing(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A world without a task, with the one to go to one of its things, drawn by the episode's seed.

    An episode ends where the thing is reached, as MiniWorld's other environments have it, with the reward 1.

    Args:
        env: a MiniWorld environment.
        name: says what an entity is called; "" for what is no thing to go to.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: Any):
        super().__init__(env)
        self._name = name
        self._chance = np.random.default_rng()
        self._things: dict[str, list[Any]] = {}  # several may have one name
        self._reached: set[str] = set()
        self._reached_at_first: frozenset[str] = frozenset()
        self._news: set[str] = set()
        self.goal = ""
        """What is to be gone to."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, and draw one of the things that are not reached from the start."""
        if seed is not None:
            self._chance = np.random.default_rng((seed, TASK))
        result = self.env.reset(seed=seed, options=options)
        world: Any = self.env.unwrapped
        self._things = {}
        for entity in world.entities:
            if name := self._name(entity):
                self._things.setdefault(name, []).append(entity)
        self._reached = self._near()
        self._reached_at_first = frozenset(self._reached)
        self._news = set()
        away = sorted(self._things.keys() - self._reached) or sorted(self._things)
        self.goal = away[int(self._chance.integers(len(away)))]
        return result

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, and end the episode where the goal is reached."""
        observation, _, terminated, truncated, info = self.env.step(action)
        near = self._near()
        self._news = near - self._reached
        self._reached |= near
        success = self.goal in near
        return observation, float(success), terminated or success, truncated, info

    def instruction(self) -> str:
        """Return what is to be done in this episode."""
        return f"go to the {self.goal}"

    def fulfilled_instructions(self) -> dict[str, float]:
        """Return what the last step would have fulfilled: each thing that it was the first to reach."""
        return {f"go to the {name}": 1.0 for name in sorted(self._news)}

    def possible_instructions(self) -> tuple[str, ...]:
        """Return the other things that could be gone to: not those that the agent stands at from the start."""
        return tuple(f"go to the {name}" for name in sorted(self._things.keys() - self._reached_at_first - {self.goal}))

    def _near(self) -> set[str]:
        """Return the names of the things that the agent is at."""
        world: Any = self.env.unwrapped
        return {name for name, things in self._things.items() if any(world.near(thing) for thing in things)}
