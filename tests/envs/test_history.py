"""A history shows what was seen and done, word for word, and each transcript begins with the one before."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs import ContractError, FreeText, History, LanguageVecEnv, check_env, language_space, make, make_env
from heed.envs.contract import action_texts_of
from heed.evaluation.axes import axis
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.layout import PADDING

LEVEL = "BabyAI-GoToLocal-v0"


class Rooms(gymnasium.Env[Any, Any]):
    """A row of numbered rooms: the agent sees the number of its own. Seven steps make an episode."""

    action_texts = ("go back", "go on")

    def __init__(self, actions: spaces.Space[Any] | None = None) -> None:
        self.observation_space = language_space(clock=spaces.Discrete(8))
        self.action_space = actions or spaces.Discrete(2)
        self._room = self._clock = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._room, self._clock = int(self.np_random.integers(100, 1000)) if seed else 0, 0
        return self._words(), {"told": "at reset"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._room += 1 if np.all(action == 1) else -1
        self._clock += 1
        return self._words(), 0.5, self._clock == 7, False, {"is_success": True, "told": "at step"}

    def _words(self) -> dict[str, Any]:
        return {"instruction": "explore", "observation": f"room {self._room}", "clock": self._clock}


def transcripts(env: gymnasium.Env[Any, Any], actions: list[Any], seed: int = 0) -> list[str]:
    """The observation of each step of an episode."""
    return [
        env.reset(seed=seed)[0]["observation"],
        *(env.step(action)[0]["observation"] for action in actions),
    ]


def test_the_transcript_of_an_episode_written_out_by_hand() -> None:
    assert transcripts(History(Rooms(), length=2), [1, 1, 0, 1, 1, 1, 0]) == [
        "room 0",
        "room 0\n> go on: room 1",
        "room 0\n> go on: room 1\n> go on: room 2",
        "room 0\n> go on: room 1\n> go on: room 2\n> go back: room 1",
        "room 1\n> go on: room 2",  # a fifth observation would be more than twice two: cut to the last two
        "room 1\n> go on: room 2\n> go on: room 3",
        "room 1\n> go on: room 2\n> go on: room 3\n> go on: room 4",
        "room 4\n> go back: room 3",
    ]
    assert transcripts(History(Rooms(), length=1), [1, 1, 1]) == [
        "room 0",
        "room 0\n> go on: room 1",
        "room 2",
        "room 2\n> go on: room 3",
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_transcript_begins_with_the_one_before_except_where_it_is_cut(length: int) -> None:
    said = transcripts(History(make_env(LEVEL), length=length), [0, 1, 2, 0] * 7)
    plain = transcripts(make_env(LEVEL), [0, 1, 2, 0] * 7)
    held = [text.count("\n> ") + 1 for text in said]  # BabyAI's observations have no line breaks of their own
    cuts = [step for step, (before, now) in enumerate(pairwise(said), 1) if not now.startswith(f"{before}\n> ")]
    assert cuts == list(range(2 * length, len(said), length + 1))
    for step, (text, observation) in enumerate(zip(said, plain, strict=True)):
        assert text.endswith(observation)
        assert min(step + 1, length) <= held[step] <= 2 * length
        assert held[step] == length or step not in cuts


def test_what_a_model_has_read_is_the_beginning_of_what_it_reads_next() -> None:
    """The point of cutting seldom: not only the words, but the tokens of a prompt begin as those before did."""
    model = load_language_model("heed-tiny")
    encoder = model.encoder(max_tokens=1024)
    instruction, actions = "go to the red ball", [0, 2] * 5
    behind = encoder.template.text.partition("{observation}")[2].format(instruction=instruction)
    ending = model.tokenizer.encode(behind)

    def prompts(history: int) -> list[list[int]]:
        said = transcripts(make_env(LEVEL, history=history), actions)
        rows = encoder({"instruction": [instruction] * len(said), "observation": said})
        return [[int(token) for token in row if token != PADDING] for row in rows]

    read = prompts(history=6)
    for before, now in pairwise(read):
        assert before[-len(ending) :] == ending
        assert now[: len(before) - len(ending)] == before[: -len(ending)]
    for whole, alone in zip(read, prompts(history=0), strict=True):
        assert whole[-len(alone) :] == alone  # the same words are the same tokens, with a past and without


def test_all_else_passes_through() -> None:
    env: Any = History(Rooms(), length=2)
    plain: Any = Rooms()
    assert action_texts_of(env) == Rooms.action_texts
    assert env.action_space == plain.action_space
    assert list(env.observation_space.spaces) == list(plain.observation_space.spaces)
    assert env.observation_space["clock"] == plain.observation_space["clock"]
    assert env.reset(seed=0) == plain.reset(seed=0)
    for step in range(1, 8):
        (observation, *others), (expected, *expected_others) = env.step(1), plain.step(1)
        assert others == expected_others
        assert (observation["instruction"], observation["clock"]) == ("explore", step)
        assert env.newest_observation == expected["observation"]


def test_an_observation_as_long_as_it_may_be_still_fits() -> None:
    class Wordy(Rooms):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"instruction": FreeText(), "observation": FreeText(500)})

        def _words(self) -> dict[str, Any]:
            return {"instruction": "explore", "observation": "x" * 500}

    env = History(Wordy(), length=2)
    assert env.observation_space.contains(env.reset()[0])
    for _ in range(7):
        assert env.observation_space.contains(env.step(0)[0])


def test_an_episode_begins_without_the_one_before() -> None:
    env = History(Rooms(), length=3)
    first = transcripts(env, [1, 0, 1])
    assert transcripts(env, [1, 0, 1]) == first
    assert transcripts(env, [], seed=5) == transcripts(Rooms(), [], seed=5)


def test_actions_without_texts_are_written_as_numbers_on_one_line() -> None:
    box = spaces.Box(-1, 1, shape=(30,), dtype=np.float32)
    env = History(Rooms(box), length=2)
    _, text = transcripts(env, [np.linspace(-1, 1, 30, dtype=np.float32)])
    assert text.startswith("room 0\n> -1 -0.931 -0.862 ")
    assert text.endswith(" 0.931 1: room -1")
    assert text.count("\n") == 1


@pytest.mark.parametrize("length", [0, -3])
def test_a_length_that_cannot_be_is_told(length: int) -> None:
    with pytest.raises(ValueError, match=f"A history's length must be at least 1, but is {length}"):
        History(Rooms(), length=length)


def test_an_environment_that_does_not_speak_is_refused() -> None:
    with pytest.raises(ContractError, match="CartPole-v1 does not speak the language contract"):
        History(gymnasium.make("CartPole-v1"), length=2)


def test_a_vector_hands_on_the_transcript_of_an_episodes_end() -> None:
    env: Any = LanguageVecEnv([functools.partial(History, Rooms(), length=4)], seed=0)
    begun = env.reset()["observation"][0]
    first = int(begun.removeprefix("room "))
    for _ in range(7):
        observations, _, dones, infos = env.step(np.array([1]))
    assert dones[0]
    last = "\n> go on: ".join(f"room {first + step}" for step in range(8))
    assert infos[0]["terminal_observation"]["observation"] == last
    assert "\n" not in observations["observation"][0]
    assert observations["observation"][0] != begun


def test_make_gives_a_history_from_an_id_to_a_vector() -> None:
    env: Any = make(LEVEL, n_envs=3, seed=7, history=2)
    plain: Any = make(LEVEL, n_envs=3, seed=7)
    assert env.env_is_wrapped(History) == [True] * 3
    assert plain.env_is_wrapped(History) == [False] * 3
    said, seen = [env.reset()["observation"]], [plain.reset()["observation"]]
    for _ in range(3):
        said.append(env.step(np.array([0, 1, 2]))[0]["observation"])
        seen.append(plain.step(np.array([0, 1, 2]))[0]["observation"])
    for index, action in enumerate(("turn left", "turn right", "go forward")):
        assert said[3][index] == f"\n> {action}: ".join(row[index] for row in seen)


def test_a_vector_with_a_history_comes_back_from_its_state() -> None:
    env: Any = make(LEVEL, n_envs=2, seed=7, history=3)
    actions = np.random.default_rng(0).integers(3, size=(100, 2))
    env.reset()
    for row in actions[:83]:  # into the second episode, since 64 steps end one
        observations = env.step(row)[0]
    fresh: Any = make(LEVEL, n_envs=2, seed=99, history=3)
    restored = fresh.set_state(env.get_state())
    assert list(restored["observation"]) == list(observations["observation"])
    for row in actions[83:]:
        ours, theirs = env.step(row)[0], fresh.step(row)[0]
        assert list(ours["observation"]) == list(theirs["observation"])


@pytest.mark.parametrize("name", ["blank", "swapped"])
def test_changed_instructions_leave_the_history_as_it_is(name: str) -> None:
    env = axis(name).make_env(LEVEL, history=2)
    assert transcripts(env, [0, 2, 2, 0, 1], seed=3) == transcripts(make_env(LEVEL, history=2), [0, 2, 2, 0, 1], seed=3)
    assert env.reset(seed=3)[0]["instruction"] != make_env(LEVEL).reset(seed=3)[0]["instruction"]


def test_make_tells_a_history_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="must be at least 1, but is -1"):
        make(LEVEL, history=-1)


def test_an_environment_with_a_history_keeps_the_contract() -> None:
    checks = check_env(functools.partial(make_env, LEVEL, history=2), episodes=2)
    assert [check.detail for check in checks if not check.passed] == []
