"""Demonstrations hold what was played, come back from a file as they were, and say what is wrong with one."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heed.envs import make_env
from heed.envs.contract import ExpertError
from heed.envs.demonstrations.demonstrate import Outcome, demonstrate
from heed.envs.demonstrations.demonstrations import (
    Demonstration,
    DemonstrationError,
    Demonstrations,
    demonstration_seeds,
    read_demonstrations,
    write_demonstrations,
)
from heed.envs.watchdog import HangError
from tests.buttons import Buttons

LEVEL = functools.partial(make_env, "BabyAI-GoToLocal-v0")
EPISODE = Demonstration(
    seed=7,
    instruction="go to the rød ball",
    observations=("a", "b", "c"),
    actions=(2, 0),
    rewards=(0.0, 0.5),
    terminated=True,
    success=True,
)
LABELLED = dataclasses.replace(EPISODE, labels=(1, 1), terminated=False, success=False)
FILE = Demonstrations(env="E-v0", expert="bot", seed=3, action_texts=("x", "y", "z"), episodes=(EPISODE, LABELLED))


def in_order(outcomes: Any) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.number)


def played(*arguments: Any, **options: Any) -> list[Demonstration]:
    return [outcome.demonstration for outcome in in_order(demonstrate(*arguments, **options))]


class ExpertButtons(Buttons):
    """Buttons with somebody who knows which is the right one, except for the last."""

    def expert_action(self) -> int:
        if self._named == 2:
            raise ExpertError("blue is unknown")
        return self._named


# -- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demos.jsonl", "new/folder/demos.jsonl.gz"])
def test_a_file_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_demonstrations(path, FILE)
    assert read_demonstrations(path) == FILE
    assert read_demonstrations(path, action_texts=["x", "y", "z"]) == FILE
    again = path.with_name(f"again-{path.name}")
    write_demonstrations(again, FILE)
    assert again.read_bytes() == path.read_bytes()
    content = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    lines = content.decode().splitlines()
    assert json.loads(lines[0])["format"] == "heed-demonstrations"
    assert "labels" not in json.loads(lines[1])
    assert "rød" in lines[1]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    write_demonstrations(path, FILE)
    endless = dataclasses.replace(EPISODE, rewards=(0.0, float("inf")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_demonstrations(path, dataclasses.replace(FILE, episodes=(EPISODE, endless)))
    assert read_demonstrations(path) == FILE
    assert [file.name for file in tmp_path.iterdir()] == ["demos.jsonl"]


def changed(line: str, **fields: Any) -> str:
    return json.dumps({**json.loads(line), **fields})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda lines: [], "no file of demonstrations"),
        (lambda lines: lines[1:], "its first line is not their header"),
        (lambda lines: [changed(lines[0], version=9), *lines[1:]], "of version 9 of the format"),
        (lambda lines: [changed(lines[0], action_texts="xyz"), *lines[1:]], "line 1 is damaged"),
        (lambda lines: lines[:1], "holds no episode"),
        (lambda lines: [*lines[:2], "{"], "line 3 is damaged"),
        (lambda lines: [*lines[:2], "[]"], "line 3 is damaged"),
        (lambda lines: [*lines[:2], "{}"], "line 3 is damaged: 'actions' is missing"),
        (lambda lines: [lines[0], changed(lines[1], actions=[2, 3])], "line 2 is damaged: one of its actions is none"),
        (lambda lines: [lines[0], changed(lines[1], actions=[-1, 0])], "one of its actions is none of the 3 actions"),
        (lambda lines: [lines[0], changed(lines[1], labels=[0, 3])], "one of its labels is none of the 3 actions"),
        (lambda lines: [lines[0], changed(lines[1], labels=[0])], "the labels are not of so many steps"),
        (lambda lines: [lines[0], changed(lines[1], observations=["a", "b"])], "the observations are not of so many"),
        (lambda lines: [lines[0], changed(lines[1], rewards=[1, "2"])], "line 2 is damaged"),
        (lambda lines: [lines[0], changed(lines[1], rewards=[1, float("nan")])], "rewards is not finite"),
        (lambda lines: [lines[0], changed(lines[1], success=1)], "line 2 is damaged"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(damage: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "demos.jsonl"
    write_demonstrations(path, FILE)
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text("utf-8").splitlines())), "utf-8")
    with pytest.raises(DemonstrationError, match=sentence) as told:
        read_demonstrations(path)
    assert str(path) in str(told.value)


def test_a_file_that_is_cut_off_missing_or_of_other_actions(tmp_path: Path) -> None:
    plain, packed = tmp_path / "demos.jsonl", tmp_path / "demos.jsonl.gz"
    for path in (plain, packed):
        write_demonstrations(path, FILE)
        with pytest.raises(DemonstrationError, match=r"with the actions \['x', 'y', 'z'\], but those of this"):
            read_demonstrations(path, action_texts=("x", "z", "y"))
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(DemonstrationError, match=r"line 3 is cut off|damaged after line"):
            read_demonstrations(path)
    packed.write_text("{}\n")
    with pytest.raises(DemonstrationError, match="damaged after line 0"):
        read_demonstrations(packed)
    with pytest.raises(DemonstrationError, match="There is no file"):
        read_demonstrations(tmp_path / "nowhere.jsonl")
    with pytest.raises(DemonstrationError, match="is a folder"):
        read_demonstrations(tmp_path)


# -- an episode --------------------------------------------------------------------------------------------------


def test_returns_and_targets_worked_by_hand() -> None:
    episode = dataclasses.replace(EPISODE, observations=tuple("abcd"), actions=(0, 1, 2), rewards=(1.0, 0.0, 4.0))
    assert episode.returns(0.5) == (2.0, 2.0, 4.0)
    assert episode.targets == (0, 1, 2)
    assert LABELLED.targets == (1, 1)
    assert len(LABELLED) == 2


@pytest.mark.parametrize("history", [0, 1, 3])
def test_what_an_agent_reads_is_what_the_wrapper_for_histories_shows(history: int) -> None:
    (episode,) = played(LEVEL, [12], lambda words, generators: generators[0].integers(3, size=1))
    assert len(episode) > 8
    env = LEVEL(history=history)
    shown = [env.reset(seed=12)[0]["observation"], *(env.step(action)[0]["observation"] for action in episode.actions)]
    assert episode.read(history, env.get_wrapper_attr("action_texts"))["observation"] == shown
    assert any("\n" in text for text in shown) == (history > 0)


# -- playing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_envs", [1, 3, 32])
def test_the_expert_plays_and_what_is_recorded_can_be_played_again(n_envs: int) -> None:
    seeds = demonstration_seeds(0, 6)
    episodes = played(LEVEL, seeds, n_envs=n_envs)
    assert episodes == played(LEVEL, seeds, n_envs=2)
    env = LEVEL()
    for seed, episode in zip(seeds, episodes, strict=True):
        assert episode.seed == seed
        assert episode.success
        assert episode.terminated
        assert episode.labels is None
        observation, _ = env.reset(seed=seed)
        assert observation == {"instruction": episode.instruction, "observation": episode.observations[0]}
        for step, action in enumerate(episode.actions):
            observation, reward, terminated, _, _ = env.step(action)
            assert observation["observation"] == episode.observations[step + 1]
            assert (reward, terminated) == (episode.rewards[step], step == len(episode) - 1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_expert_labels_what_somebody_else_does_and_has_its_share(share: float) -> None:
    read: list[str] = []

    def turn_left(words: Any, generators: Any) -> Any:
        read.extend(words["observation"])
        return np.zeros(len(generators), dtype=int)

    episodes = played(LEVEL, demonstration_seeds(1, 5), turn_left, expert_share=share, history=2)
    labels = [label for episode in episodes for label in episode.targets]
    actions = [action for episode in episodes for action in episode.actions]
    by_expert = np.mean([action == label for action, label in zip(actions, labels, strict=True) if label != 0])
    assert by_expert == pytest.approx(share, abs=0.15)
    assert any("\n> turn left: " in text for text in read)  # it reads its history
    assert not any("\n" in text for episode in episodes for text in episode.observations)
    for episode in episodes:
        if episode.labels is not None:
            env = LEVEL()
            env.reset(seed=episode.seed)
            for action, label in zip(episode.actions, episode.labels, strict=True):
                assert env.get_wrapper_attr("expert_action")() == label
                env.step(action)


def test_where_the_expert_gives_up_the_episode_ends_and_the_others_go_on() -> None:
    outcomes = in_order(demonstrate(ExpertButtons, list(range(30)), n_envs=4))
    assert len(outcomes) == 30
    given_up = [outcome for outcome in outcomes if outcome.given_up]
    assert {outcome.given_up for outcome in given_up} == {"blue is unknown"}
    for outcome in outcomes:
        assert len(outcome.demonstration) == (0 if outcome.given_up else 1)
        assert outcome.demonstration.success != ("blue" in outcome.demonstration.instruction)
    assert 0 < len(given_up) < 30


def test_where_nothing_can_be_recorded_it_is_told() -> None:
    with pytest.raises(ExpertError, match="Buttons has no expert"):
        list(demonstrate(Buttons, [0]))
    with pytest.raises(DemonstrationError, match="no action texts"):
        list(demonstrate(functools.partial(make_env, "Pendulum-v1"), [0], lambda words, generators: np.zeros(1)))

    class Fickle(Buttons):
        def step(self, action: Any) -> Any:
            observation, *others = super().step(action)
            return {**observation, "instruction": "press nothing"}, *others

    with pytest.raises(DemonstrationError, match="changes its instruction"):
        list(demonstrate(Fickle, [0], lambda words, generators: np.zeros(1)))


class SleepingButtons(ExpertButtons):
    """Whoever presses one waits for ever."""

    def step(self, action: int) -> Any:
        time.sleep(1000)


def test_an_environment_that_hangs_is_told() -> None:
    with pytest.raises(HangError, match=r"step did not return within 0.2 s"):
        list(demonstrate(SleepingButtons, [0, 1], step_timeout=0.2))
