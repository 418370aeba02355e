"""Robots' goals: their words on plain numbers; with the library also that they are the simulator's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heed.envs import UnknownEnvironmentError, check_env, make_env
from heed.envs.worlds.robotics.goals import (
    gripper_goal,
    height_in_words,
    maze_goal,
    maze_observation,
    offset_in_words,
    thing_goal,
)

START = (1.34, 0.75, 0.53)


def test_offsets_are_told_in_centimetres() -> None:
    assert offset_in_words((0.124, -0.05, 0.031)) == "12 cm ahead, 5 cm right, 3 cm up"
    assert offset_in_words((-0.006, 0.004, -0.2)) == "1 cm back, 20 cm down"
    assert offset_in_words((0.004, -0.004)) == "here"
    assert [height_in_words(height) for height in (0.001, 0.12, -0.4)] == [
        "on the table",
        "12 cm above the table",
        "40 cm below the table",
    ]


def test_goals_become_instructions() -> None:
    assert gripper_goal((1.46, 0.70, 0.53), START) == "move the gripper 12 cm ahead, 5 cm right from where it starts"
    assert gripper_goal(START, START) == "keep the gripper where it starts"
    assert (
        thing_goal("push", "block", (1.30, 0.75, 0.425), START, 0.425)
        == "push the block to 4 cm back of where the gripper starts, on the table"
    )
    assert (
        thing_goal("bring", "block", (1.34, 0.75, 0.625), START, 0.425)
        == "bring the block below where the gripper starts, 20 cm above the table"
    )


def test_a_maze_is_told_as_a_map() -> None:
    maze: list[list[Any]] = [[1, 1, 1, 1], [1, 0, "g", 1], [1, 0, 1, 1], [1, 1, 1, 1]]
    assert maze_goal((1, 2)) == "roll the ball to row 2, column 3 of the maze"
    assert maze_observation(maze, (1, 1), (1.04, -0.2), (0.0, 0.0)) == (
        "row 2, column 2; goal 104 cm right, 20 cm down; at rest; wall up; wall left"
    )
    assert maze_observation(maze, (2, 1), (0.0, 0.001), (-0.3, 0.12)) == (
        "row 3, column 2; goal here; rolling 30 cm left, 12 cm up a second; wall down; wall left; wall right"
    )


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.delitem(sys.modules, "heed.envs.worlds.robotics.world", raising=False)
    for env_id in ("FetchReach-v4", "PointMaze_UMaze-v3"):
        with pytest.raises(UnknownEnvironmentError, match=r"pip install 'heed\[robotics\]'"):
            make_env(env_id)


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def robotics(self) -> Any:
        for library in ("gymnasium_robotics", "mujoco"):
            reason = "Gymnasium-Robotics is not installed: pip install 'heed[robotics]'"
            pytest.importorskip(library, reason=reason)
        from heed.envs.worlds.robotics import world as robotics

        return robotics

    @pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPickAndPlace-v4", "PointMaze_UMaze-v3"])
    def test_it_keeps_the_contract(self, env_id: str) -> None:
        assert [check for check in check_env(env_id, episodes=2) if not check.passed] == []

    def test_numbers_are_the_observation_and_the_way_to_the_goal(self) -> None:
        env: Any = make_env("FetchPush-v4")
        observation, _ = env.reset(seed=1)
        plain = env.unwrapped._get_obs()
        way = plain["desired_goal"] - plain["achieved_goal"]
        assert observation["numbers"].shape == (28,)
        np.testing.assert_allclose(observation["numbers"], [*plain["observation"], *way], rtol=1e-6)
        assert f"goal from the block: {offset_in_words(way)}" in observation["observation"]
        assert env.observation_space.contains(observation)

    def test_going_where_the_words_say_is_a_success(self) -> None:
        env = make_env("FetchReach-v4")
        successes = 0
        for seed in range(3):
            observation, _ = env.reset(seed=seed)
            truncated = False
            while not truncated:
                # Only what is written: "goal from the gripper: 4 cm ahead, 7 cm right, 14 cm down; ..."
                words = observation["observation"].split(";")[0].partition(": ")[2]
                offset = dict.fromkeys(("ahead", "left", "up"), 0.0)
                for part in words.split(", "):
                    if part != "here":
                        length, _, way = part.split()
                        opposite = {"back": "ahead", "right": "left", "down": "up"}
                        offset[opposite.get(way, way)] = float(length) * (-1 if way in opposite else 1)
                action = np.clip(np.array([*offset.values(), 0.0], np.float32) / 10, -1, 1)
                observation, _, _, truncated, info = env.step(action)
            successes += info["is_success"]
        assert successes == 3

    def test_a_maze_ends_at_its_goal_unless_it_is_told_to_go_on(self) -> None:
        told: list[tuple[dict[str, Any], bool]] = [({}, True), ({"continuing_task": True}, False)]
        for options, ends in told:
            env: Any = make_env("PointMaze_Open-v3", **options)
            env.reset(seed=0)
            world = env.unwrapped
            world.goal = world._get_obs(world.point_env._get_obs()[0])["achieved_goal"]
            _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
            assert (reward, terminated) == (1.0, ends)
            assert info.get("is_success", True) is True


def test_a_simulation_that_goes_wrong_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mujoco = pytest.importorskip("mujoco", reason="the extra `robotics` is not installed")
    pytest.importorskip("gymnasium_robotics", reason="the extra `robotics` is not installed")
    monkeypatch.chdir(tmp_path)
    env: Any = make_env("FetchReach-v4").unwrapped
    env.reset(seed=0)
    env.data.qvel[:] = np.inf
    mujoco.mj_step(env.model, env.data)
    assert "simulation is unstable" in caplog.text
    assert list(tmp_path.iterdir()) == []
