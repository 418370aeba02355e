"""An action to say that an instruction cannot be done: when it is right, what it brings, and who else is told."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs import Augmented, CannotBeDone, ContractError, Curriculum, check_env, language_space, make
from heed.envs.contract import action_texts_of, expert_of, fulfilled_instructions_of, impossible_instructions_of
from heed.envs.make import make_env
from heed.envs.wrappers.cannot_be_done import CANNOT_BE_DONE
from heed.evaluation.axes import axis
from tests.buttons import Buttons
from tests.ledger import name_of

LEVEL = "BabyAI-GoToLocal-v0"
ROOMS = ("hall", "attic", "cellar")


class House(gymnasium.Env[Any, Any]):
    """Go to a room of a house that has but two of three, and say "done" there; another "done" changes nothing."""

    action_texts = ("go on", "done")

    def __init__(self) -> None:
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(2)
        self.rooms, self.at, self.steps = [""], 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.rooms = [ROOMS[int(place)] for place in self.np_random.permutation(3)[:2]]
        self.at = self.steps = 0
        return self._words(), {"task": "house"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.at = (self.at + 1) % 2 if action == 0 else self.at
        success = action == 1 and self.at == 1
        return self._words(), 2.0 if success else 0.0, success, self.steps == 5, {"is_success": success}

    def expert_action(self) -> int:
        return int(self.at == 1)

    def fulfilled_instructions(self) -> dict[str, float]:
        return {f"go to the {self.rooms[self.at]}": 2.0} if self.steps else {}

    def impossible_instructions(self) -> tuple[str, ...]:
        return tuple(f"go to the {room}" for room in ROOMS if room not in self.rooms)

    def _words(self) -> dict[str, str]:
        return {"instruction": f"go to the {self.rooms[1]}", "observation": f"you are in the {self.rooms[self.at]}"}


GO_ON, DONE, CANNOT = 0, 1, 2


def episode(env: Any, seed: int, *actions: int) -> tuple[float, bool, bool, dict[str, Any]]:
    """Play these actions, of which the last is to end the episode; return its end."""
    env.reset(seed=seed)
    for place, action in enumerate(actions, 1):
        _, reward, terminated, truncated, info = env.step(action)
        assert (terminated or truncated) == (place == len(actions))
    return reward, terminated, truncated, info


def test_it_is_one_action_more() -> None:
    env = CannotBeDone(House())
    assert env.action_space == spaces.Discrete(3)
    assert action_texts_of(env) == ("go on", "done", CANNOT_BE_DONE)
    assert all(check.passed for check in check_env(functools.partial(CannotBeDone, House())))


def test_to_say_so_is_success_where_it_is_true_and_costs_where_it_is_not() -> None:
    possible, impossible = CannotBeDone(House(), share=0), CannotBeDone(House(), share=1)
    for seed in range(5):
        words, info = impossible.reset(seed=seed)
        assert words["instruction"] == info["shown"] not in (None, info["instruction"])
        assert words["instruction"].removeprefix("go to the ") not in impossible.env.rooms  # type: ignore[attr-defined]
        end = episode(impossible, seed, GO_ON, CANNOT)
        assert end[:3] == (1.0, True, False)
        assert (end[3]["is_success"], end[3]["said_cannot_be_done"], end[3]["task"]) == (True, True, "house")
        end = episode(possible, seed, CANNOT)
        assert end[:3] == (-0.5, True, False)
        assert (end[3]["is_success"], end[3]["said_cannot_be_done"]) == (False, True)


def test_done_ends_the_episode_and_is_success_where_the_environment_says_so() -> None:
    possible, impossible = CannotBeDone(House(), share=0), CannotBeDone(House(), share=1)
    end = episode(possible, 0, GO_ON, DONE)
    assert (end[:3], end[3]["is_success"], end[3]["said_cannot_be_done"]) == ((2.0, True, False), True, False)
    end = episode(possible, 0, DONE)
    assert (end[:3], end[3]["is_success"]) == ((-0.5, True, False), False)
    # What the environment's own instruction brings, nobody was told of.
    end = episode(impossible, 0, GO_ON, DONE)
    assert (end[0], end[3]["is_success"], end[3]["said_cannot_be_done"]) == (0.0, False, False)
    end = episode(impossible, 0, *[GO_ON] * 5)
    assert (end[:3], end[3]["is_success"]) == ((0.0, False, True), False)


def test_the_share_is_kept_by_the_seed_and_the_world_stays() -> None:
    env, own = CannotBeDone(make_env(LEVEL), share=0.3), make_env(LEVEL)
    impossible = 0
    for seed in range(300):
        words, info = env.reset(seed=seed)
        plain, _ = own.reset(seed=seed)
        assert info["instruction"] == plain["instruction"]
        assert words["observation"] == plain["observation"]
        assert words == env.reset(seed=seed)[0]
        assert env.is_impossible == (words["instruction"] != plain["instruction"])
        impossible += env.is_impossible
        if env.is_impossible:
            tell = impossible_instructions_of(env)
            assert tell is not None
            assert words["instruction"] in tell()
    assert impossible / 300 == pytest.approx(0.3, abs=0.07)


def test_the_expert_says_so_and_else_knows_the_way() -> None:
    for make_one in (House, functools.partial(make_env, LEVEL)):
        env = CannotBeDone(make_one(), share=0.5)
        expert = expert_of(env)
        assert expert is not None
        said = []
        for seed in range(12):
            env.reset(seed=seed)
            over = False
            while not over:
                _, _, terminated, truncated, info = env.step(expert())
                over = terminated or truncated
            assert info["is_success"]
            assert info["said_cannot_be_done"] == env.is_impossible
            said.append(env.is_impossible)
        assert len(set(said)) == 2


def test_to_say_something_fulfils_nothing() -> None:
    env = CannotBeDone(House(), share=0)
    ask = fulfilled_instructions_of(env)
    env.reset(seed=0)
    assert ask() == {}
    env.step(GO_ON)
    assert len(ask()) == 1
    env.step(CANNOT)
    assert ask() == {}
    env.reset(seed=0)
    assert ask() == {}


def test_where_actions_change_it_is_the_last_of_those_that_are_listed() -> None:
    env = CannotBeDone(make_env(name_of("A", changing=True)), share=0)
    for seed in range(5):
        words, _ = env.reset(seed=seed)
        for _ in range(3):
            assert words["actions"][-1] == CANNOT_BE_DONE
            assert len(words["actions"]) <= env.action_space.n  # type: ignore[attr-defined]
            last = len(words["actions"]) - 1
            words, _, terminated, truncated, _ = env.step(0)
            if terminated or truncated:
                break
        env.reset(seed=seed)
        words, _ = env.reset(seed=seed)
        last = len(words["actions"]) - 1
        words, reward, terminated, truncated, info = env.step(last)
        assert (reward, terminated, truncated, info["is_success"]) == (-0.5, True, False, False)
    mixed = CannotBeDone(make_env(f"{name_of('A', changing=True)}+{LEVEL}"), share=0)
    assert all(mixed.reset(seed=seed)[0]["actions"][-1] == CANNOT_BE_DONE for seed in range(5))


def test_a_curriculum_learns_which_level_it_was() -> None:
    levels = "BabyAI-GoToLocal-v0+BabyAI-PickupLoc-v0"
    wrappers = [functools.partial(CannotBeDone, share=1.0)]
    env: Any = make(levels, n_envs=2, seed=0, wrappers=wrappers, curriculum=Curriculum(scheme="failures", window=4))
    env.reset()
    for _ in range(30):
        infos = env.step(np.array([7, 7]))[3]
        assert all(info["level"] in levels and info["is_success"] for info in infos)
    env.close()


def test_on_the_axis_success_is_to_say_so_where_the_agent_can() -> None:
    offered = axis("impossible").make_env(LEVEL, wrappers=(functools.partial(CannotBeDone, share=0),))
    plain = axis("impossible").make_env(LEVEL)
    for seed in range(5):
        _, info = offered.reset(seed=seed)
        assert plain.reset(seed=seed)[1]["shown"] == info["shown"] != info["instruction"]
        _, _, terminated, _, info = offered.step(7)
        assert terminated
        assert (info["is_success"], info["shown_success"], info["said_cannot_be_done"]) == (True, False, True)
        over, steps = False, 0
        offered.reset(seed=seed)
        while not over:
            _, _, terminated, truncated, info = offered.step(0)
            over, steps = terminated or truncated, steps + 1
        assert (steps, info["is_success"], info["said_cannot_be_done"]) == (64, False, False)
    # On others nothing changes but that there is the action.
    for name in ("swapped", "longer", "injected-text", "french", "changed-midway"):
        env = axis(name).make_env(LEVEL, wrappers=(functools.partial(CannotBeDone, share=0),))
        own = axis(name).make_env(LEVEL)
        for seed in range(3):
            assert env.reset(seed=seed)[0] == own.reset(seed=seed)[0]
            assert env.step(2)[:4] == own.step(2)[:4]


def test_what_cannot_be_done_is_said_in_other_words_too() -> None:
    env = Augmented(CannotBeDone(make_env(LEVEL), share=1), ("languages",))
    said = [env.reset(seed=seed) for seed in range(20)]
    assert any(info["wording"] and words["instruction"] != info["instruction"] for words, info in said)
    assert env.step(7)[4]["is_success"]


class Talking(House):
    """It has such an action itself."""

    action_texts = ("go on", CANNOT_BE_DONE)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ContractError, match="does not tell what cannot be done in an episode's world"):
        CannotBeDone(Buttons())
    with pytest.raises(ContractError, match="has no actions to choose one from"):
        CannotBeDone(make_env("Pendulum-v1"), share=0)
    with pytest.raises(ContractError, match="has an action 'this cannot be done' of its own"):
        CannotBeDone(Talking())
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        CannotBeDone(House(), share=1.5)
