"""Every way in which a training can be told of something: none names what is held out of it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from heed.envs import ChangingInstruction, Curriculum, Instructions, SubInstructionRewards, Task
from heed.envs.contract import method_of
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import demonstration_seeds
from heed.envs.hold_out import TELLING_METHODS, HoldOut, HoldOutError, WithoutPhrases, hold_out_of, names_one_of
from heed.envs.make import make, make_env
from heed.envs.wrappers.shown import ImpossibleInstruction, InjectedInstruction
from heed.evaluation.axes import EitherInstruction, axis
from tests.buttons import Buttons

GO, PICK = "BabyAI-GoToLocalS6N4-v0", "BabyAI-PickupLoc-v0"
PHRASES = ("purple key", "yellow ball", "red box", "blue ball", "grey key", "green box")
POOL = ("go to the purple key", "go to the yellow ball", "go to the purple box")
ANY_THING = [f"go to the {color} {kind}" for color in ("purple", "red", "grey") for kind in ("key", "box", "ball")]


class Rewords(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Knows nothing of what is held out: says all that it likes, also in the middle of an episode."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        self._words = ANY_THING[hash_of(observation["observation"]) % len(ANY_THING)]
        return {**observation, "instruction": self._words}, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *others = self.env.step(action)
        self._steps += 1
        if self._steps % 3 == 0:
            self._words = ANY_THING[hash_of(observation["observation"]) % len(ANY_THING)]
        return {**observation, "instruction": self._words}, *others  # type: ignore[return-value]


def hash_of(text: str) -> int:
    return sum(text.encode())


def tasks(env: Any) -> Instructions:
    """Tasks of which some, or some of their texts, name what is held out."""

    def seen(moment: Any) -> str:
        return f"look at the {moment.observation['observation'].split(' ', 2)[0]} {'key' if moment.number else 'box'}"

    return Instructions(
        env,
        [
            Task(["fetch the purple key", "fetch the purple thing"], success=lambda moment: moment.number == 3),
            Task(["reach the Yellow  Ball"], success=lambda moment: moment.number == 4, name="ball"),
            Task([seen], success=lambda moment: moment.number == 5, name="seen"),
            Task(["never mind the red box"], success=lambda moment: False, possible=lambda moment: False, name="never"),
            Task(None),
        ],
    )


CHANGING = functools.partial(ChangingInstruction, at=(1, 4))
PATHS: dict[str, dict[str, Any]] = {
    "level": {},
    "history": {"history": 2},
    "changed midway": {"wrappers": [CHANGING]},
    "changed midway, parts, history": {"wrappers": [CHANGING, SubInstructionRewards], "history": 2},
    "tasks": {"wrappers": [tasks]},
    "tasks that change": {"wrappers": [tasks, CHANGING]},
    "swapped": {"wrappers": [functools.partial(EitherInstruction, pool=POOL, purpose="swapped")]},
    "impossible": {"wrappers": [functools.partial(ImpossibleInstruction, pool=POOL, purpose="impossible")]},
    "injected": {"wrappers": [functools.partial(InjectedInstruction, pool=POOL, text="do {instruction}", purpose="i")]},
    "a wrapper that knows nothing": {"wrappers": [Rewords]},
    "and one around it": {"wrappers": [Rewords, CHANGING]},
    "mixture, changed midway": {"env_id": f"{GO}+{PICK}", "wrappers": [CHANGING]},
}


def told(env: gymnasium.Env[Any, Any], seeds: Sequence[int], steps: int = 12) -> Iterator[str]:
    """Yield all words in which an environment can tell of instructions."""
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        generator, over = np.random.default_rng(seed), False
        for _ in range(steps + 1):
            yield from (observation["instruction"], str(info.get("shown", "")), str(info.get("instruction", "")))
            if "do " in observation["observation"]:  # what is injected into it
                yield observation["observation"].partition(";")[0]
            for name in TELLING_METHODS:
                tell = method_of(env, name)
                yield from tell() if tell is not None else ()
            if over:
                break
            observation, _, terminated, truncated, info = env.step(int(generator.choice(3, p=[0.2, 0.2, 0.6])))
            over = terminated or truncated


@pytest.mark.parametrize("path", PATHS)
def test_no_words_of_a_training_name_what_is_held_out(path: str) -> None:
    options = {"env_id": GO, **PATHS[path]}
    plain, env = make_env(**options), make_env(**options, hold_out=PHRASES)
    assert any(names_one_of(PHRASES, words) for words in told(plain, range(12)))
    heard = list(told(env, range(25)))
    assert not [words for words in heard if names_one_of(PHRASES, words)]
    assert len(set(heard)) > 5
    assert hold_out_of(env) == HoldOut(PHRASES)
    assert list(told(env, range(3))) == list(told(env, range(3)))  # and follows from the seed


@pytest.mark.parametrize("options", [{"curriculum": Curriculum()}, {"group_size": 2}, {"wrappers": [tasks]}])
def test_vectors_are_told_of_none_either(options: dict[str, Any]) -> None:
    made = {"n_envs": 4, "seed": 0, "wrappers": [CHANGING], **options}
    env: Any = make(f"{GO}+{PICK}", **made, hold_out=PHRASES)
    heard = list(env.reset()["instruction"])
    for step in range(80):
        observations, _, _, infos = env.step(np.full(4, (2, 0, 2, 1)[step % 4]))
        heard += list(observations["instruction"])
        heard += [info["terminal_observation"]["instruction"] for info in infos if "terminal_observation" in info]
    env.close()
    assert not [words for words in heard if names_one_of(PHRASES, words)]
    assert len(set(heard)) > 5


@pytest.mark.parametrize("name", ["swapped", "changed-midway", "longer", "impossible", "injected-text", "paraphrase"])
def test_an_axis_that_is_trained_on_keeps_to_it(name: str) -> None:
    # With so little left to name, too few worlds have a pair of instructions that no training puts together.
    parameters: dict[str, Any] = {"anew": False} if name == "longer" else {}
    env = axis(name, **parameters).make_env(GO, hold_out=PHRASES)
    assert not [words for words in told(env, range(15)) if names_one_of(PHRASES, words)]


def test_an_episode_ends_where_its_instruction_would_become_such_a_one() -> None:
    class Changes(Buttons):
        def reset(self, **more: Any) -> Any:
            self.instructions = iter(("press red", "press green", "press blue", "press red"))
            return {"instruction": next(self.instructions), "observation": "buttons"}, {}

        def step(self, action: Any) -> Any:
            observation = {"instruction": next(self.instructions), "observation": "buttons"}
            return observation, 0.5, bool(action), False, {"is_success": bool(action)}

    env = WithoutPhrases(Changes(), ["blue"])
    assert env.reset()[0]["instruction"] == "press red"
    assert env.step(0)[0]["instruction"] == "press green"
    observation, reward, terminated, truncated, info = env.step(0)
    assert (observation["instruction"], reward, terminated, truncated) == ("press green", 0.5, False, True)
    assert info == {"is_success": False, "held_out": True}
    env.reset()
    env.step(0)
    observation, _, terminated, truncated, info = env.step(1)  # the environment's own end stays what it is
    assert (observation["instruction"], terminated, truncated, info) == (
        "press green",
        True,
        False,
        {"is_success": True},
    )


def test_recorded_episodes_go_through_the_same_filter() -> None:
    seeds = demonstration_seeds(0, 30)
    everything = [outcome.demonstration for outcome in demonstrate(lambda: make_env(GO), seeds)]
    kept = HoldOut(PHRASES).demonstrations(everything)
    assert 0 < len(kept) < 30
    assert kept == [episode for episode in everything if not names_one_of(PHRASES, episode.instruction)]
    assert HoldOut().demonstrations(everything) == everything


def test_demos_records_none_where_it_is_told_so(tmp_path: Path) -> None:
    from heed.envs.demonstrations.demonstrations import read_demonstrations
    from heed.scripts import demos

    words = itertools.chain.from_iterable(("--hold-out", phrase) for phrase in PHRASES)
    demos.main(["--env", GO, "--episodes", "12", "--out", str(tmp_path / "demos.jsonl"), *words])
    episodes = read_demonstrations(tmp_path / "demos.jsonl").episodes
    assert len(episodes) == 12
    assert not [episode for episode in episodes if names_one_of(PHRASES, episode.instruction)]


def test_what_only_a_wrapper_says_can_be_held_out_too() -> None:
    make_env(GO, hold_out=["yellow ball", "purple thing"], wrappers=[tasks]).close()
    with pytest.raises(HoldOutError, match="There is nothing to hold out"):
        make_env(GO, hold_out=["purple thing"])


def test_tasks_of_which_none_can_be_said_are_told() -> None:
    def red(env: Any) -> Instructions:
        return Instructions(env, [Task("find red", success=lambda moment: True), Task("see red", success=bool)])

    with pytest.raises(HoldOutError, match=r"all that are possible .* name red, which is held out"):
        make_env(GO, hold_out=["red"], wrappers=[red]).reset(seed=0)


@pytest.mark.parametrize(
    ("phrase", "words", "named"),
    [
        ("purple key", "go to the purple\nkey", True),
        (" purple   key ", "go to the Purple key!", True),
        ("porte fermée", "ouvre la PORTE FERMÉE", True),
        ("caf\u00e9", "go to the cafe\u0301", True),
        ("purple key", "go to the purple-key", False),
    ],
)
def test_capitals_spaces_and_accents_do_not_hide_a_phrase(phrase: str, words: str, named: bool) -> None:
    assert HoldOut((phrase,)).names(words) == named
