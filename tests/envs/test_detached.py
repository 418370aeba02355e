"""Objects of an environment: never written to, and never trusted to stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs import AutomaticVerbalizer, Instructions, LanguageVecEnv, Mixture, Task, VerbalizedEnv, check_env
from heed.envs.contract import ChangingActions, language_space
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.hold_out import WithoutPhrases
from heed.envs.wrappers.asked_once import AskedOnce
from heed.envs.wrappers.mixture import Level
from heed.evaluation.playing.batch import run_episodes

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]


class Doors(gymnasium.Env[Any, Any]):
    """Three steps; the right door differs from step to step. It speaks, and makes all objects anew."""

    def __init__(self) -> None:
        numbers = spaces.Box(0, 10, (2,), np.float32)
        self.observation_space = language_space(changing_actions=True, numbers=numbers)
        self.action_space = ChangingActions(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.number = 0
        self._draw()
        return self.told(), self.information({})

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        right = action == self.right
        self.number += 1
        self._draw()
        over = self.number == 3
        info = self.information({"is_success": bool(right), "seen": [self.number]} if over else {"seen": [self.number]})
        return self.told(), self.reward(float(right)), over, False, info

    def _draw(self) -> None:
        self.right = int(self.np_random.integers(2))
        self.name = int(self.np_random.integers(1000))

    def expert_action(self) -> int:
        return self.right

    def fulfilled_instructions(self) -> dict[str, float]:
        return {}

    def told(self) -> dict[str, Any]:
        return {
            "instruction": "go through the open door",
            "observation": f"door {self.right} of {self.name} is open",
            "actions": (f"to door {self.name}", f"to door {self.name + 1}"),
            "numbers": np.full(2, self.number, np.float32),
        }

    def information(self, info: dict[str, Any]) -> dict[str, Any]:
        return info

    def reward(self, number: float) -> Any:
        return number


class Reusing(Doors):
    """The same, with one object of each kind for all steps, episodes and instances."""

    words: dict[str, Any] = {}  # noqa: RUF012 - shared on purpose
    info: dict[str, Any] = {"seen": []}  # noqa: RUF012
    numbers, rewards = np.zeros(2, np.float32), np.zeros(1)

    def told(self) -> dict[str, Any]:
        self.numbers[:] = self.number
        self.words.update({**super().told(), "numbers": self.numbers})
        return self.words

    def information(self, info: dict[str, Any]) -> dict[str, Any]:
        self.info.pop("is_success", None)
        assert self.info.keys() == {"seen"}, "somebody wrote into the environment's info"
        self.info["seen"][:] = info.pop("seen", [])
        self.info.update(info)
        return self.info

    def reward(self, number: float) -> Any:
        self.rewards[:] = number
        return self.rewards


def as_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_plain(part) for key, part in value.items() if key not in ("t", "episode")}
    if isinstance(value, list | tuple):
        return [as_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def in_a_vector(make: MakeEnv) -> Any:
    venv = LanguageVecEnv([make] * 3, seed=0)
    told = [as_plain(venv.reset())]
    kept = []
    for step in range(7):
        observations, rewards, dones, infos = venv.step(np.array([0, 1, step % 2]))
        told.append(as_plain((observations, rewards, dones)))
        kept.append(infos)
    venv.close()
    return told, as_plain(kept)


def in_an_evaluation(make: MakeEnv) -> Any:
    def choose(words: dict[str, list[Any]], generators: Sequence[np.random.Generator]) -> Any:
        return np.array([int(seen.split()[1]) if seen[-4] != "9" else 0 for seen in words["observation"]])

    return run_episodes(make, choose, [3, 4, 5, 6], n_envs=2)


def in_demonstrations(make: MakeEnv) -> Any:
    return sorted((outcome.number, outcome.demonstration) for outcome in demonstrate(make, [3, 4, 5, 6], n_envs=2))


def in_checks(make: MakeEnv) -> Any:
    return [(check.name, check.outcome) for check in check_env(make) if check.name != "Gymnasium's own check"]


def in_a_mixture(make: MakeEnv) -> Any:
    return in_a_vector(lambda: Mixture([make(), make()], [Level(env_id="a"), Level(env_id="b")]))


def with_tasks(make: MakeEnv) -> Any:
    return in_a_vector(
        lambda: Instructions(make(), [Task("wait", success=lambda moment: moment.number == 2), Task(None)])
    )


@pytest.mark.parametrize(
    "play",
    [in_a_vector, in_an_evaluation, in_demonstrations, in_checks, in_a_mixture, with_tasks],
    ids=lambda f: f.__name__,
)
def test_an_environment_may_reuse_its_objects(play: Callable[[MakeEnv], Any]) -> None:
    assert play(Reusing) == play(Doors)


class Guess(gymnasium.Env[Any, Any]):
    """A plain environment with one `info` for good, and rewards in an array; it writes into the actions it is given."""

    observation_space = spaces.Dict(goal=spaces.Discrete(2), place=spaces.Box(-1, 1, (2,), np.float64))
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.observation: dict[str, Any] = {"goal": 0, "place": np.zeros(2)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation["goal"] = int(self.np_random.integers(2))
        return self.observation, self.info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        right = (action[0] > 0) == self.observation["goal"]
        action *= 0
        self.observation["place"][:] = 0.5
        return self.observation, np.array([float(right)]), True, False, self.info


def test_success_follows_the_reward_and_what_is_given_stays_the_givers() -> None:
    env = Guess()
    venv = LanguageVecEnv([lambda: VerbalizedEnv(AutomaticVerbalizer(env, changes=True))], seed=0)
    venv.reset()
    actions = np.ones((1, 1), np.float32)
    told = []
    for _ in range(12):
        _, rewards, _, infos = venv.step(actions)
        told.append((bool(rewards[0]), infos[0]["is_success"], infos[0]["episode"]["r"] > 0))
    assert set(told) == {(True, True, True), (False, False, False)}
    assert actions.tolist() == [[1.0]]
    assert env.info == {}


class Counting(gymnasium.Env[Any, Any]):
    """Takes its options out of what it is given; names what was done in a mapping that it keeps."""

    observation_space, action_space, action_texts = language_space(), spaces.Discrete(1), ("wait",)
    done: dict[str, float] = {}  # noqa: RUF012

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        start = (options or {}).pop("start")
        self.done.clear()
        return {"instruction": f"{'red' if self.np_random.random() < 0.9 else 'blue'} {start}", "observation": "x"}, {}

    def fulfilled_instructions(self) -> dict[str, float]:
        self.done["wait"] = 1.0
        return self.done


def test_options_and_mappings_are_copied() -> None:
    env = WithoutPhrases(Counting(), ["red"])
    options = {"start": "here"}
    assert env.reset(seed=1, options=options)[0]["instruction"] == "blue here"
    assert options == {"start": "here"}
    once = AskedOnce(Counting())
    told = once.fulfilled_instructions()
    once.unwrapped.done.clear()  # type: ignore[attr-defined]
    assert told == {"wait": 1.0}
