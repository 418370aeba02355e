"""Gymnasium-Robotics' goals in words: the Fetch arm, and the ball in a maze (the library's own ids).

Plappert et al. 2018 (arXiv 1802.09464): an arm that reaches for a place, pushes a block, slides a puck, picks a block
up. The goal, three coordinates, becomes the instruction, rounded to centimetres (a goal counts as reached within 5);
the exact numbers stand under `numbers`: the environment's own observation, and the goal minus what is achieved.
Actions are a Box, so the agent's head is linear.

`PointMaze` is made to end where the goal is reached, unless it is told `continuing_task`: going on with another goal
would change the instruction midway.
"""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.envs.words.verbalize import Verbalizer
from heed.envs.worlds.extra import load
from heed.envs.worlds.robotics.goals import (
    gripper_goal,
    height_in_words,
    maze_goal,
    maze_observation,
    offset_in_words,
    thing_goal,
)

gymnasium.register_envs(load("gymnasium_robotics"))
# By itself MuJoCo writes its warnings into MUJOCO_LOG.TXT, in whatever folder the user is.
load("mujoco").set_mju_user_warning(logging.getLogger("mujoco").warning)


class GoalVerbalizer(Verbalizer):
    """What environments with a `desired_goal` and an `achieved_goal` have in common: their numbers.

    Raises:
        TypeError: if the environment has no such goals.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        space = env.observation_space
        keys = {"observation", "achieved_goal", "desired_goal"}
        if not isinstance(space, spaces.Dict) or not keys <= space.spaces.keys():
            raise TypeError(
                f"This verbalizer needs an environment with goals ({', '.join(sorted(keys))}), not {space}."
            )
        length = sum(int(np.prod(space[key].shape or ())) for key in ("observation", "desired_goal"))
        self._numbers = spaces.Box(-np.inf, np.inf, (length,), np.float32)

    def action_texts(self) -> None:
        """Return None: the actions are numbers."""

    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Return the space of `numbers`."""
        return {"numbers": self._numbers}

    def auxiliary(self, observation: Any) -> dict[str, npt.NDArray[np.float32]]:
        """Return the observation's own numbers, and the goal minus what is achieved."""
        return {"numbers": np.concatenate([observation["observation"], _to_goal(observation)]).astype(np.float32)}


class FetchVerbalizer(GoalVerbalizer):
    """The Fetch arm: where its gripper, what it moves, and the goal are."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        arm: Any = env.unwrapped
        self._arm = arm
        kind = type(self._arm).__name__
        self._thing = "puck" if "Slide" in kind else "block"
        self._verb = "slide" if "Slide" in kind else "push" if "Push" in kind else "bring"
        self._grips = not arm.block_gripper

    def instruction(self, observation: Any) -> str:
        """Return the goal in words."""
        goal, start = observation["desired_goal"], self._arm.initial_gripper_xpos
        if not self._arm.has_object:
            return gripper_goal(goal, start)
        return thing_goal(self._verb, self._thing, goal, start, self._arm.height_offset)

    def observation(self, observation: Any) -> str:
        """Return where the goal is, from what has to get there, and where the gripper and the thing are."""
        numbers = observation["observation"]
        start = self._arm.initial_gripper_xpos
        what = self._thing if self._arm.has_object else "gripper"
        parts = [
            f"goal from the {what}: {offset_in_words(_to_goal(observation))}",
            f"gripper from its start: {offset_in_words(numbers[:3] - start)}",
        ]
        if self._arm.has_object:
            parts.append(f"{self._thing} from the gripper: {offset_in_words(numbers[6:9])}")
            parts.append(f"{self._thing} {height_in_words(numbers[5] - self._arm.height_offset)}")
        if self._grips:
            parts.append(f"fingers {round(100 * float(numbers[9] + numbers[10]))} cm apart")
        return "; ".join(parts)


class PointMazeVerbalizer(GoalVerbalizer):
    """A ball in a maze: where it and the goal are, how it rolls, and where walls are next to its cell."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        world: Any = env.unwrapped
        self._world = world
        if env.spec is None or "continuing_task" not in env.spec.kwargs:
            world.continuing_task = False

    def instruction(self, observation: Any) -> str:
        """Return the goal's cell."""
        return maze_goal(self._cell(observation["desired_goal"]))

    def observation(self, observation: Any) -> str:
        """Return the ball's cell, the way to the goal, its velocity, and the walls of its cell."""
        return maze_observation(
            self._world.maze.maze_map,
            self._cell(observation["achieved_goal"]),
            _to_goal(observation),
            observation["observation"][2:4],
        )

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the ball is at the goal."""
        return bool(info["success"])

    def _cell(self, place: Any) -> tuple[int, int]:
        row, column = self._world.maze.cell_xy_to_rowcol(place)
        return int(row), int(column)


def _to_goal(observation: Any) -> npt.NDArray[np.float64]:
    difference: npt.NDArray[np.float64] = observation["desired_goal"] - observation["achieved_goal"]
    return difference
