"""Curricula: sampling weights by hand, and vectors that draw by them, in groups and processes, and come back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv
from heed.envs import (
    Curriculum,
    CurriculumVecEnv,
    Instructions,
    LanguageVecEnv,
    Mixture,
    ProcessLanguageVecEnv,
    language_space,
)
from heed.envs.contract import ContractError
from heed.envs.make import make
from heed.envs.wrappers.mixture import Level
from heed.envs.wrappers.sampling_weights import SamplingWeights
from tests.corridor import Corridor, at
from tests.faulty import stumbling_levels

GO, PICK = "BabyAI-GoToObjS4-v0", "BabyAI-PickupLoc-v0"


def weights_of(scheme: Any, *outcomes: str, window: int = 4, floor: float = 0.2, weights: Any = None) -> list[float]:
    """Return the sampling weights of levels; each string holds one's outcomes, the oldest first: "+" for a success."""
    names = [f"level {index}" for index in range(len(outcomes))]
    kept = SamplingWeights(names, weights or [1.0] * len(names), Curriculum(scheme=scheme, window=window, floor=floor))
    for name, text in zip(names, outcomes, strict=True):
        for sign in text:
            kept.add(name, sign == "+")
    return [round(weight, 10) for weight in kept.now()]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (("", ""), [0.5, 0.5]),
        # Failures 4/4 and 1/4: 0.1 + 0.8 * 4/5 and 0.1 + 0.8 * 1/5.
        (("----", "+++-"), [0.74, 0.26]),
        # What is not there yet has failed: failures 3/4 and 1/4.
        (("+", "+++-"), [0.7, 0.3]),
        # Older than the window: forgotten. Failures 0/4 and 2/4.
        (("----++++", "++--"), [0.1, 0.9]),
        # All mastered: as given.
        (("++++", "++++"), [0.5, 0.5]),
    ],
)
def test_failures_are_drawn_more_by_hand(outcomes: Any, expected: list[float]) -> None:
    assert weights_of("failures", *outcomes) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (("", ""), [0.5, 0.5]),
        # Progress |1 - 0| and |0.5 - 0|: 0.1 + 0.8 * 2/3 and 0.1 + 0.8 * 1/3.
        (("--++", "---+"), [round(0.1 + 0.8 * 2 / 3, 10), round(0.1 + 0.8 / 3, 10)]),
        # What is forgotten draws as much as what is learned.
        (("++--", "--++"), [0.5, 0.5]),
        # Neither mastered nor hopeless.
        (("++++", "----", "--+-"), [round(0.2 / 3, 10), round(0.2 / 3, 10), round(0.2 / 3 + 0.8, 10)]),
    ],
)
def test_progress_is_drawn_more_by_hand(outcomes: Any, expected: list[float]) -> None:
    assert weights_of("progress", *outcomes) == expected


def test_given_weights_count_in_the_floor_and_beside_success() -> None:
    # Given 3/4 and 1/4; failures 1/2 and 1: wanted 3/8 and 2/8, which are 0.6 and 0.4.
    assert weights_of("failures", "++--", "----", weights=[3, 1]) == [0.2 * 0.75 + 0.8 * 0.6, 0.37]
    assert weights_of("failures", "++--", "----", weights=[3, 1], floor=1.0) == [0.75, 0.25]


class Fixed(gymnasium.Env[Any, Any]):
    """One step, which succeeds or fails whatever is done."""

    action_texts = ("a", "b")

    def __init__(self, succeeds: bool):
        self.observation_space = language_space()
        self.action_space = spaces.Discrete(2)
        self._succeeds, self._number = succeeds, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._number = int(self.np_random.integers(2**31))
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._words(), float(self._succeeds), True, False, {"is_success": self._succeeds}

    def _words(self) -> dict[str, str]:
        return {"instruction": "do", "observation": f"world {self._number}"}


def easy_and_hard() -> Mixture:
    return Mixture([Fixed(True), Fixed(False)], [Level(env_id="easy"), Level(env_id="hard")])


def test_what_is_mastered_is_drawn_as_seldom_as_the_floor_has_it() -> None:
    venv = CurriculumVecEnv(LanguageVecEnv([easy_and_hard] * 8, seed=0), Curriculum(window=20))
    venv.reset()
    assert venv.sampling_weights == {"easy": 0.5, "hard": 0.5}
    counts: Counter[str] = Counter()
    for step in range(300):
        infos = venv.step(np.zeros(8, dtype=int))[3]
        if step >= 50:
            counts.update(info["level"] for info in infos)
    assert venv.success_rates == {"easy": 1.0, "hard": 0.0}
    assert venv.sampling_weights == {"easy": pytest.approx(0.1), "hard": pytest.approx(0.9)}
    assert abs(counts["easy"] / 2000 - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 2000)


def test_it_draws_the_worlds_that_a_level_s_seeds_give() -> None:
    """Only the level is drawn otherwise; an episode of it is the one of its seed."""
    plain: Any = LanguageVecEnv([easy_and_hard] * 4, seed=3)
    venv: Any = CurriculumVecEnv(LanguageVecEnv([easy_and_hard] * 4, seed=3), Curriculum(window=4))
    assert list(plain.reset()["observation"]) == list(venv.reset()["observation"])
    for _ in range(20):
        ours, theirs = (env.step(np.zeros(4, dtype=int))[0] for env in (venv, plain))
        assert list(ours["observation"]) == list(theirs["observation"])


def play(venv: Any, steps: int, seed: int) -> list[Any]:
    generator = np.random.default_rng(seed)
    told: list[Any] = []
    for _ in range(steps):
        observations, rewards, dones, infos = venv.step(generator.integers(3, size=venv.num_envs))
        levels = [info.get("level") for info in infos]
        told.append(
            [list(observations["observation"]), rewards.tolist(), dones.tolist(), levels, dict(venv.sampling_weights)]
        )
    return told


@pytest.mark.parametrize("scheme", ["failures", "progress"])
def test_environments_and_curriculum_come_back_to_where_they_were(scheme: Any) -> None:
    settings = Curriculum(scheme=scheme, window=6)
    venv = make(f"{GO}+{PICK}", n_envs=4, seed=0, curriculum=settings, max_steps=9)
    venv.reset()
    play(venv, 60, seed=0)
    state = json.loads(json.dumps(venv.get_state()))  # type: ignore[attr-defined]
    again = make(f"{GO}+{PICK}", n_envs=4, seed=8, curriculum=settings, max_steps=9)
    restored = again.set_state(state)  # type: ignore[attr-defined]
    assert again.get_state() == state  # type: ignore[attr-defined]
    ours, theirs = play(venv, 60, seed=1), play(again, 60, seed=1)
    assert ours == theirs
    assert len({json.dumps(told[-1]) for told in ours}) > 1  # sampling weights moved meanwhile
    assert len(restored["observation"]) == 4


def test_without_what_was_drawn_other_levels_would_come_back() -> None:
    """Why the state holds it: what comes back is drawn once more, by whatever sampling weights it is given."""
    venv: Any = CurriculumVecEnv(LanguageVecEnv([easy_and_hard] * 16, seed=0), Curriculum(window=4))
    venv.reset()
    for _ in range(10):
        venv.step(np.zeros(16, dtype=int))
    state, drawn = json.loads(json.dumps(venv.get_state())), venv.get_attr("level")

    def brought_back(state: Any) -> list[str]:
        again = CurriculumVecEnv(LanguageVecEnv([easy_and_hard] * 16, seed=0), Curriculum(window=4))
        again.set_state(state)
        assert again.sampling_weights == venv.sampling_weights
        return list(again.get_attr("level"))

    assert brought_back(state) == drawn
    weights = state.pop("weights")
    assert brought_back({**state, "weights": {**weights, "running": [[0.5, 0.5]] * 16}}) != drawn


def test_in_processes_the_same_episodes_are_played() -> None:
    settings = Curriculum(window=5)
    one, many = (
        make(f"{GO}+{PICK}", n_envs=3, seed=2, curriculum=settings, max_steps=6, processes=count) for count in (1, 2)
    )
    try:
        for env in (one, many):
            env.reset()
        assert play(one, 30, seed=0) == play(many, 30, seed=0)
        state = one.get_state()  # type: ignore[attr-defined]
        assert state == many.get_state()  # type: ignore[attr-defined]
        many.set_state(state)  # type: ignore[attr-defined]
        assert play(one, 15, seed=1) == play(many, 15, seed=1)
    finally:
        many.close()


def test_a_group_plays_the_same_level_though_sampling_weights_move() -> None:
    venv: Any = make(f"{GO}+{PICK}", n_envs=6, seed=0, group_size=3, curriculum=Curriculum(window=3), max_steps=5)
    assert venv.group_size == 3
    venv.reset()
    groups: dict[Any, set[str]] = {}
    generator, moved = np.random.default_rng(0), set()
    for step in range(400):
        if step == 200:  # and when it has come back
            venv.set_state(json.loads(json.dumps(venv.get_state())))
        infos = venv.step(generator.integers(3, size=6))[3]
        moved.add(tuple(venv.sampling_weights.values()))
        for info in infos:
            if "episode_group" in info:
                groups.setdefault(info["episode_group"], set()).add(info["level"])
    assert len(groups) > 100
    assert all(len(levels) == 1 for levels in groups.values())
    assert {level for levels in groups.values() for level in levels} == {GO, PICK}
    assert len(moved) > 3


def test_tasks_have_a_curriculum_too() -> None:
    def tasks() -> Instructions:
        return Instructions(Corridor(), [at(1, "left"), at(0, "far left", weight=3)])

    venv = CurriculumVecEnv(LanguageVecEnv([tasks] * 4, seed=0), Curriculum(window=10))
    venv.reset()
    assert venv.sampling_weights == pytest.approx({"be at left": 0.25, "be at far left": 0.75})
    for _ in range(60):
        venv.step(np.zeros(4, dtype=int))  # going left does both
    assert venv.success_rates == {"be at left": 1.0, "be at far left": 1.0}


def played(venv: Any, steps: int) -> tuple[list[Any], dict[Any, set[str]]]:
    """Return all that the environments say, and the levels that each group has played."""
    told: list[Any] = []
    groups: dict[Any, set[str]] = {}
    for _ in range(steps):
        observations, rewards, dones, infos = venv.step(np.zeros(venv.num_envs, dtype=int))
        told.append([list(observations["observation"]), rewards.tolist(), dones.tolist(), venv.sampling_weights])
        for info in infos:
            if "episode_group" in info and "episode_lost" not in info:
                groups.setdefault(info["episode_group"], set()).add(info["level"])
    return told, groups


@pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_group_plays_one_level_though_resets_fail(size: int) -> None:
    """A reset that fails takes a number, and its environment is made anew and knows no sampling weights."""
    settings: Any = {"seed": 0, "group_size": size}
    venv: Any = CurriculumVecEnv(LanguageVecEnv([stumbling_levels] * 4, **settings), Curriculum(window=4))
    venv.reset()
    before, groups = played(venv, 150)
    state = json.loads(json.dumps(venv.get_state()))
    after, more = played(venv, 150)
    for group, levels in more.items():
        groups.setdefault(group, set()).update(levels)
    assert venv.lost_count > 100
    assert size == 1 or len(groups) > 60
    assert [levels for levels in groups.values() if len(levels) > 1] == []
    assert size == 1 or {level for levels in groups.values() for level in levels} == {"easy", "hard"}
    assert len({json.dumps(told[-1]) for told in after}) > 2, "sampling weights moved"
    again: Any = CurriculumVecEnv(LanguageVecEnv([stumbling_levels] * 4, **settings), Curriculum(window=4))
    again.set_state(state)
    assert played(again, 150) == (after, more)
    if size != 2:
        return
    many: Any = ProcessLanguageVecEnv([stumbling_levels] * 4, processes=2, **settings)
    many = CurriculumVecEnv(many, Curriculum(window=4))
    try:
        many.reset()
        assert played(many, 150)[0] == before
        assert many.get_state() == state
        assert many.venv.running_groups == again_running(state, size)
        many.set_state(state)
        assert played(many, 150) == (after, more)
    finally:
        many.close()


def again_running(state: Any, size: int) -> list[tuple[int, int]]:
    return [(index // size, episode // size) for index, episode in enumerate(state["episodes"])]


@pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")
def test_an_episode_that_was_lost_counts_for_nothing() -> None:
    venv: Any = CurriculumVecEnv(LanguageVecEnv([stumbling_levels] * 2, seed=0), Curriculum(window=1000))
    venv.reset()
    ended = 0
    for _ in range(60):
        infos = venv.step(np.zeros(2, dtype=int))[3]
        ended += sum("is_success" in info and "terminal_observation" in info for info in infos)
    counted = venv.get_state()["curriculum"]["outcomes"]
    assert venv.lost_count > 10
    assert sum(map(len, counted.values())) == ended


def test_other_wrappers_of_vectors_find_their_way_through() -> None:
    venv: Any = make(f"{GO}+{PICK}", n_envs=2, seed=0, curriculum=Curriculum())
    around = IntrinsicRewardVecEnv(venv, CountBonus(), coefficient=0.1)
    around.reset()
    around.step(np.zeros(2, dtype=int))
    assert around.unwrapped is venv
    assert set(around.unwrapped.get_state()) >= {"seed", "episodes", "actions", "curriculum"}
    around.set_state(around.get_state())
    around.tell_fulfilled_instructions()
    assert "fulfilled_instructions" in around.step(np.zeros(2, dtype=int))[3][0]
    with pytest.raises(AttributeError, match="no_such"):
        _ = around.no_such


def test_seeding_begins_anew() -> None:
    venv: Any = make(f"{GO}+{PICK}", n_envs=2, seed=0, curriculum=Curriculum())
    first = venv.reset()
    venv.seed(0)
    assert list(venv.reset()["observation"]) == list(first["observation"])
    assert venv.get_state()["episodes"] == [0, 0]


def test_what_cannot_be_is_refused() -> None:
    for settings, message in (
        ({"scheme": "luck"}, "no curriculum 'luck': there are failures and progress"),
        ({"window": 1}, "at least 2 episodes, but is 1"),
        ({"floor": 0.0}, "floor is 0.0, but must be more than 0"),
        ({"floor": 1.5}, "at most 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Curriculum(**settings)
    with pytest.raises(ContractError, match="There is nothing to make a curriculum of"):
        make(GO, n_envs=2, curriculum=Curriculum())
    venv: Any = make(f"{GO}+{PICK}", n_envs=2, seed=0, curriculum=Curriculum())
    venv.reset()
    state = venv.get_state()
    plain: Any = make(f"{GO}+{PICK}", n_envs=2, seed=0)
    plain.reset()
    with pytest.raises(ValueError, match="a training without a curriculum"):
        venv.set_state(plain.get_state())
    more: Any = make(f"{GO}+{PICK}", n_envs=3, seed=0, curriculum=Curriculum())
    with pytest.raises(ValueError, match="of 2 environments, but there are 3"):
        more.set_state(state)
    other: Any = make(f"{GO}+BabyAI-OpenDoor-v0", n_envs=2, seed=0, curriculum=Curriculum())
    with pytest.raises(ValueError, match="curriculum's state is of"):
        other.set_state(state)
