"""What an axis says that it changes is what changes, and nothing else, in all worlds that ship with Heed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import minigrid  # noqa: F401 - registers BabyAI's levels
import numpy as np
import pytest

from heed.envs.contract import ContractError, UnknownEnvironmentError, action_texts_of, sample_action
from heed.envs.make import instruction_pool, make_env
from heed.evaluation.axes import Axis, AxisDoesNotApplyError, axis, axis_names
from heed.evaluation.axes.registry import CHANGES

NEWEST_TAXI = max(env_id for env_id in gymnasium.registry if env_id.startswith("Taxi-v"))
SAMPLE = (
    "BabyAI-GoToLocalS6N4-v0",
    "BabyAI-PickupLoc-v0",
    "FrozenLake-v1",
    "BabyAI-GoToLocalS6N4-v0+FrozenLake-v1",  # whose observations list the actions
)
WORLDS = (
    *sorted(env_id for env_id in gymnasium.registry if env_id.startswith(("BabyAI-", "MiniGrid-"))),
    *("FrozenLake8x8-v1", NEWEST_TAXI, "CliffWalking-v1", "Blackjack-v1"),
    *("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"),
    *("LunarLander-v3", "BipedalWalker-v3", "Heed/DeepSea-v0"),
    *("Heed/Crafter-v0", "Heed/CrafterPixels-v0", "Heed/CrafterCollectWood-v0"),
    *("Heed/TextWorld-Simple-v0", "Heed/TextWorld-TreasureHunter-v0", "Heed/TextWorld-Cooking-v0"),
    *("MiniWorld-Sign-v0", "MiniWorld-RoomObjects-v0", "MiniWorld-ThreeRooms-v0", "MiniWorld-PutNext-v0"),
    *("FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "PointMaze_UMaze-v3"),
    *("ALE/Pong-v5", "ALE/Breakout-v5"),
    *("miniwob/click-test-2-v1", "miniwob/choose-list-v1", "miniwob/enter-text-v1", "miniwob/click-checkboxes-v1"),
    *("miniwob/click-link-v1", "miniwob/login-user-v1", "miniwob/email-inbox-v1", "miniwob/click-shape-v1"),
    *(f"{level}+FrozenLake-v1" for level in ("BabyAI-GoTo-v0", "BabyAI-PutNextLocal-v0")),
)
STEPS, SEEDS = 12, 4
TOLD_BY_AXES = {"instruction", "shown", "shown_success", "is_success", "TimeLimit.truncated"}


def differences(plain: gymnasium.Env[Any, Any], changed: gymnasium.Env[Any, Any], seed: int) -> Iterator[str]:
    """Yield what differs where the same actions are taken in both, by the names of `CHANGES`, or else by its own."""
    (before, info), (after, other_info) = plain.reset(seed=seed), changed.reset(seed=seed)
    generator = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield from observed(before, after)
        yield from told(info, other_info)
        if isinstance(plain.action_space, gymnasium.spaces.Discrete):
            action = sample_action(plain.action_space, before, generator)
        else:
            plain.action_space.seed(int(generator.integers(2**31)))
            action = plain.action_space.sample()
        before, reward, *end, info = plain.step(action)
        after, other_reward, *other_end, other_info = changed.step(action)
        if end != other_end:
            yield "end"
            return
        if reward != other_reward:
            yield "reward"
        if any(end):
            yield from observed(before, after)
            yield from told(info, other_info)
            if info["is_success"] != other_info["is_success"]:
                yield "success"
            return


def observed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before.keys() != after.keys():
        yield "keys"
    yield from (key for key in before if not np.array_equal(before[key], after[key]))


def told(info: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for key, value in info.items():
        same = np.array_equal(np.asarray(value, object), np.asarray(other.get(key), object))
        if key not in TOLD_BY_AXES and not same:
            yield f"info[{key}]"


def axes_for(env_id: str) -> Iterator[Axis]:
    """Yield all axes, with what they need of parameters for a world to have a meaning there."""
    words = sorted(set(re.findall(r"[a-z]{2,}", " ".join(instruction_pool(env_id)))) - {"an"})
    for name in axis_names():
        if name == "renamed-words":
            yield axis(name)
            yield axis(name, words=[[word, f"zo{word}orp"] for word in words])
        elif name == "unseen-combinations":
            yield axis(name, phrases=[words[0]])
        else:
            yield axis(name)


def check(env_id: str) -> dict[str, set[str]]:
    """Return what every axis that applies to a world changes in it."""
    try:
        plain = make_env(env_id)
    except UnknownEnvironmentError as missing:
        if str(missing).startswith("There is no environment"):
            raise
        pytest.skip(str(missing))
    found: dict[str, set[str]] = {}
    for one in axes_for(env_id):
        try:
            changed = one.make_env(env_id)
        except AxisDoesNotApplyError:
            continue
        assert changed.action_space == plain.action_space
        assert changed.observation_space == plain.observation_space
        assert action_texts_of(changed) == action_texts_of(plain)
        if one.same_world:
            now = {name for seed in range(SEEDS) for name in differences(plain, changed, seed)}
            assert now <= set(one.changes), f"{one.label} changes {now} in {env_id}, but says {one.changes}"
            found.setdefault(one.name, set()).update(now)
        changed.close()
    plain.close()
    assert not found["true"]
    for name, now in found.items():
        assert now or name == "true", f"{name} changes nothing in {env_id}"
    return found


@pytest.mark.parametrize("env_id", SAMPLE)
def test_what_an_axis_says_it_changes_is_what_changes(env_id: str) -> None:
    found = check(env_id)
    assert len(found) > 5
    if "+" in env_id:
        assert found["renamed-words"] == {"instruction", "observation", "actions"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("env_id", WORLDS)
def test_in_every_world(env_id: str) -> None:
    check(env_id)


def test_every_axis_declares_what_it_changes_and_the_page_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation-axes.md").read_text("utf-8")
    for name in axis_names():
        made = axis(name)
        assert set(made.changes) <= CHANGES.keys()
        assert ("world" in made.changes) == (not made.same_world)
        (row,) = re.findall(rf"^\| `{name}` \| ([a-z, ]+|nothing) \|$", page, re.MULTILINE)
        assert row == (", ".join(made.changes) or "nothing")
    for part, words in CHANGES.items():
        assert f"*{part}*: {words}" in page


class Pages(gymnasium.Env[Any, Any]):
    """Lists actions that speak of what is there."""

    def __init__(self) -> None:
        from heed.envs import ChangingActions, language_space

        self.observation_space, self.action_space = language_space(changing_actions=True), ChangingActions(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._words(), 0.0, bool(action == 1), False, {"is_success": True}

    def _words(self) -> dict[str, Any]:
        actions = ("click a ball", "click a pear", "click an apple")
        return {"instruction": "click the ball", "observation": "ball; pear; apple", "actions": actions}


gymnasium.register(id="Pages-v0", entry_point=f"{__name__}:Pages")


def test_words_are_renamed_in_the_actions_too() -> None:
    env = axis("renamed-words", words={"ball": "orb", "apple": "wug"}).make_env("Pages-v0", history=1)
    observation, info = env.reset(seed=0)
    assert (observation["instruction"], info["instruction"]) == ("click the orb", "click the ball")
    assert observation["observation"] == "orb; pear; wug"
    assert observation["actions"] == ("click an orb", "click a pear", "click a wug")
    observation, *_ = env.step(2)
    assert observation["observation"] == "orb; pear; wug\n> click a wug: orb; pear; wug"
    assert env.step(1)[2]  # the second action is still the second
    alike = axis("renamed-words", words={"ball": "zo", "apple": "pear"})
    with pytest.raises(ContractError, match="two actions would be called alike"):
        alike.make_env("Pages-v0").reset(seed=0)
