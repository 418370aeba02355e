"""Demonstrations hold auxiliary observations: recorded, stored, cloned, replayed, refused."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.agents import DQN, PPO
from heed.agents.imitation.cloning import Cloning, Examples, clone
from heed.agents.imitation.dagger import dagger
from heed.envs import ChangingActions, LanguageVecEnv, language_space
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import (
    Demonstration,
    DemonstrationError,
    Demonstrations,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.demonstrations.packed_array import PackedArray
from heed.envs.wrappers.history import History
from heed.scripts import demos
from heed.scripts import train as train_module

TEXTS = ("turn left", "turn right")


class Lever(gymnasium.Env[Any, Any]):
    """Two steps: turn the lever to the side that a number or a picture tells, and no word does.

    It shows the same two arrays in every state, and writes into them. With changing actions, they change places.
    """

    def __init__(self, *, numbers: bool = True, picture: bool = False, changing: bool = False) -> None:
        self._arrays: dict[str, Any] = {}
        auxiliary: dict[str, spaces.Space[Any]] = {}
        if numbers:
            auxiliary["numbers"] = spaces.Box(-np.inf, np.inf, (1, 2), np.float64)
            self._arrays["numbers"] = np.zeros((1, 2))
        if picture:
            auxiliary["image"] = spaces.Box(0, 255, (3, 5, 3), np.uint8)
            self._arrays["image"] = np.zeros((3, 5, 3), dtype=np.uint8)
        self._changing = changing
        self.observation_space = language_space(changing_actions=changing, **auxiliary)
        self.action_space: spaces.Discrete = ChangingActions(2) if changing else spaces.Discrete(2)
        self.action_texts = None if changing else TEXTS
        self._steps, self._value = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._words(), {}

    def expert_action(self) -> int:
        return int(self._value > 0) ^ int(self._changing and self._steps % 2)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = int(action) == self.expert_action()
        self._steps += 1
        return self._words(), float(right), self._steps == 2, False, {"is_success": right}

    def _words(self) -> dict[str, Any]:
        self._value = float(self.np_random.uniform(-1, 1))
        for array in self._arrays.values():
            array[:] = self._value if array.dtype == np.float64 else 100 * (self._value > 0) + self._steps
        words: dict[str, Any] = {"instruction": "turn the lever", "observation": f"step {self._steps}", **self._arrays}
        if self._changing:
            words["actions"] = TEXTS[::-1] if self._steps % 2 else TEXTS
        return words


gymnasium.register("Lever-v0", entry_point=lambda **options: Lever(**options))
KINDS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "picture": {"numbers": False, "picture": True},
    "both, changing actions": {"picture": True, "changing": True},
}


def bot_episodes(count: int = 12, **options: bool) -> tuple[Demonstration, ...]:
    outcomes = demonstrate(lambda: Lever(**options), range(count), n_envs=3)
    return tuple(sorted((outcome.demonstration for outcome in outcomes), key=lambda episode: episode.seed))


def lever(history: int, **options: bool) -> gymnasium.Env[Any, Any]:
    env = Lever(**options)
    return History(env, length=history) if history else env


def new(kind: Any, history: int = 0, policy: dict[str, Any] | None = None, **options: bool) -> Any:
    def make_one() -> gymnasium.Env[Any, Any]:
        return lever(history, **options)

    arguments: dict[str, Any] = {"n_steps": 4, "batch_size": 8} if kind is PPO else {"buffer_size": 200}
    policy_kwargs = {"max_prompt_tokens": 64, **(policy or {})}
    return kind(env=LanguageVecEnv([make_one] * 2, seed=0), seed=0, policy_kwargs=policy_kwargs, **arguments)


@pytest.mark.parametrize("history", [0, 2])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_from_playing_through_the_file_to_the_rows_that_agents_read(
    options: dict[str, Any], history: int, tmp_path: Path
) -> None:
    """Held against the observations that the same episodes show to an agent that acts."""
    episodes = bot_episodes(**options)
    texts = () if "changing" in options else TEXTS
    written = Demonstrations(env="Lever-v0", expert="bot", seed=0, action_texts=texts, episodes=episodes)
    path = tmp_path / "lever.jsonl.gz"
    write_demonstrations(path, written)
    read = read_demonstrations(path).episodes
    assert read == episodes
    cloner, learner = new(PPO, history, **options), new(DQN, history, **options)
    examples = Examples.of(cloner, read, history=history, weigh=None)
    learner.add_demonstrations(read, history=history)
    env = lever(history, **options)
    arrays = {"numbers", "image"} & set(cloner.language_policy.encoder.keys)
    rows = []
    for episode in episodes:
        observation, _ = env.reset(seed=episode.seed)
        for action in episode.actions:
            rows.append({key: np.array(value) if key in arrays else value for key, value in observation.items()})
            observation = env.step(action)[0]
    shown = {key: [row[key] for row in rows] for key in rows[0]}
    np.testing.assert_array_equal(examples.prompts.numpy(), cloner.language_policy.encoder(shown))
    np.testing.assert_array_equal(
        learner.replay_buffer.observations[: len(rows)], learner.language_policy.encoder(shown)
    )
    assert len({row["observation"] for row in rows}) < len(np.unique(examples.prompts.numpy(), axis=0))


def test_a_clone_and_dagger_learn_what_only_the_numbers_say() -> None:
    settings = Cloning(epochs=8, batch_size=16, learning_rate=3e-3, validation=0.1)
    episodes = bot_episodes(100)
    cloned = clone(new(PPO), episodes, settings)
    assert cloned.best.validation_accuracy is not None
    assert cloned.best.validation_accuracy > 0.85
    blind = clone(new(PPO, policy={"words_only": True}), episodes, dataclasses.replace(settings, epochs=1))
    assert blind.best.validation_accuracy is not None
    assert blind.best.validation_accuracy < 0.8
    one = dataclasses.replace(settings, epochs=1)
    gathered = dagger(new(PPO, picture=True), lambda: Lever(picture=True), settings=one, rounds=1, episodes=4)
    for episode in gathered.demonstrations:
        assert episode.numbers is not None
        assert episode.image is not None
        assert (episode.numbers.shape, episode.image.shape) == ((3, 2), (3, 3, 5, 3))


def without(episode: Demonstration, **changes: Any) -> Demonstration:
    return dataclasses.replace(episode, **changes)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_what_an_agent_cannot_read_is_refused_in_a_sentence(kind: Any) -> None:
    (both,) = bot_episodes(1, picture=True)
    wide = PackedArray.of(np.zeros((3, 5), dtype=np.float32))
    cases: list[tuple[dict[str, Any], Demonstration, str]] = [
        ({}, without(both, numbers=None), r"`numbers` of the shape \(2,\).*hold none.*--words-only"),
        ({}, without(both, numbers=wide), r"hold one of the shape \(5,\)"),
        ({"picture": True}, without(both, image=None), r"`image` of the shape \(3, 5, 3\)"),
        ({"changing": True}, both, "do not list those"),
        ({"changing": True}, without(both, admissible=(("a", "b", "c"),) * 3), "lists 3 in one state"),
    ]
    for options, episode, sentence in cases:
        agent = new(kind, **options)
        learn = agent.add_demonstrations if kind is DQN else partial(clone, agent, settings=Cloning(validation=0))
        with pytest.raises(DemonstrationError, match=sentence):
            learn([episode])
    blind = new(kind, policy={"words_only": True})
    if kind is DQN:
        blind.add_demonstrations([without(both, numbers=None, image=None)])
        assert blind.replay_buffer.kept == 2


# -- the file ----------------------------------------------------------------------------------------------------


def stored(path: Path, **changes: Any) -> None:
    """Change what the file's first episode says of its numbers."""
    header, first, *_ = path.read_text().splitlines()
    episode = json.loads(first)
    episode["numbers"] = {**episode["numbers"], **changes} if changes else "1, 2"
    path.write_text(f"{header}\n{json.dumps(episode)}\n")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "is not an array"),
        ({"dtype": "object"}, "none of the kinds of numbers"),
        ({"dtype": ["float32"]}, "line 2 is damaged"),
        ({"dtype": "uint8"}, r"shape \[3, 2\] does not hold 6 bytes"),
        ({"shape": [3, 3]}, "does not hold 36 bytes"),
        ({"shape": [3, True]}, "not an array's shape"),
        ({"shape": [-3, -2]}, "not an array's shape"),
        ({"shape": [6]}, "an array of float32 with 2 dimensions"),
        ({"shape": [2, 3]}, "the numbers are not of so many steps"),
        ({"shape": [2**20, 2**20]}, "is larger than"),
        ({"zlib": "!"}, "line 2 is damaged"),
        ({"zlib": 5}, "is not an array's bytes"),
        ({"zlib": "AAAA"}, "does not hold 24 bytes"),
        ({"zlib": PackedArray.of(np.zeros(10**7, dtype=np.uint8)).as_json()["zlib"]}, "does not hold 24 bytes"),
    ],
)
def test_what_a_file_says_of_its_arrays_is_checked(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "lever.jsonl"
    write_demonstrations(
        path, Demonstrations(env="Lever-v0", expert="bot", seed=0, action_texts=TEXTS, episodes=bot_episodes(1))
    )
    stored(path, **changes)
    with pytest.raises(DemonstrationError, match=f"line 2 is damaged.*{sentence}|{sentence}"):
        read_demonstrations(path)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_an_array_comes_back_bit_by_bit(dtype: str) -> None:
    numbers = np.array([[0.1, np.inf, -0.0], [np.nan, 1e-40, 3]], dtype=np.float32)
    array = numbers if dtype == "float32" else numbers.view(np.uint8)
    packed = PackedArray.of(array)
    again = PackedArray.from_json(json.loads(json.dumps(packed.as_json())))
    assert again == packed
    unpacked = again.unpack()
    assert (unpacked.dtype, unpacked.shape, unpacked.tobytes()) == (array.dtype, array.shape, array.tobytes())
    unpacked[:] = 0  # it is the caller's
    with pytest.raises(ValueError, match="not of int64"):
        PackedArray.of(np.zeros(3, dtype=np.int64))


# -- the commands ------------------------------------------------------------------------------------------------


def test_the_commands_record_and_learn_and_refuse_an_older_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, older, played = (tmp_path / name for name in ("new.jsonl", "older.jsonl", "played.jsonl"))
    demos.main(["--env", "Lever-v0", "--out", str(file), "--episodes", "6"])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["version"] = 1
    for line in lines[1:]:
        del line["numbers"]
    older.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert [episode.numbers for episode in read_demonstrations(older).episodes] == [None] * 6
    few = ["--env", "Lever-v0", "--n-envs", "2", "--eval-episodes", "0", "--sample-every", "0", "--device", "cpu"]
    few += ["--clone-epochs", "1"]
    with pytest.raises(SystemExit) as stop:
        train_module.main([*few, "--demonstrations", str(older), "--steps", "0", "--run-dir", str(tmp_path / "no")])
    assert stop.value.code == 2
    assert "record them anew with `heed demos`" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no").exists()
    blind = ["--demonstrations", str(older), "--words-only", "--steps", "0", "--run-dir", str(tmp_path / "blind")]
    train_module.main([*few, *blind])
    run = tmp_path / "cloned"
    options = ["--dagger-rounds", "1", "--dagger-episodes", "4", "--steps", "0", "--run-dir", str(run)]
    train_module.main([*few, *options, "--demonstrations", str(file)])
    demos.main(["--env", "Lever-v0", "--out", str(played), "--episodes", "4", "--expert", str(run), "--keep-failures"])
    for episode in read_demonstrations(played).episodes:
        assert episode.numbers is not None
        assert episode.numbers.shape == (3, 2)
