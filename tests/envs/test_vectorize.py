"""Vectors of language environments: the same episodes however they are spread, and exactly continued."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from heed.envs.contract import ContractError, TextActions, UnknownEnvironmentError, language_space
from heed.envs.make import make, make_env
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv, episode_seed
from heed.envs.vectorize.workers.pipes import PipeTransport
from heed.envs.words.verbalize import VerbalizedEnv
from tests.buttons import Buttons

LEVEL = "BabyAI-GoToLocal-v0"
STEPS = 150
"""More than two episodes of the level, which ends after 64 steps."""
FIRST = 4
"""The index of the first of the environments in processes."""


@pytest.fixture(scope="module")
def processes() -> Iterator[VecEnv]:
    """Three environments of more, over two processes; for all tests, since a process takes seconds to start."""
    env = make(LEVEL, n_envs=3, seed=7, first_index=FIRST, processes=2)
    assert isinstance(env, ProcessLanguageVecEnv)
    yield env
    env.close()


def actions(env: VecEnv, steps: int, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 3, size=env.num_envs) for _ in range(steps)]


def transcript(env: VecEnv, chosen: list[Any]) -> list[list[Any]]:
    """For each environment all that it gave, without the clock's time."""
    given: list[list[Any]] = [[] for _ in range(env.num_envs)]
    for action in chosen:
        observations, rewards, dones, infos = env.step(action)
        assert isinstance(observations, dict)
        for index, info in enumerate(infos):
            words = (observations["instruction"][index], observations["observation"][index])
            episode = {key: value for key, value in info.get("episode", {}).items() if key != "t"}
            rest = {key: value for key, value in info.items() if key != "episode"}
            given[index].append((words, rewards[index], dones[index], episode, rest))
    return given


def played(env: VecEnv, seed: int, chosen: list[Any]) -> list[list[Any]]:
    env.seed(seed)
    env.reset()
    return transcript(env, chosen)


def test_processes_give_the_same_episodes(processes: VecEnv) -> None:
    alone = make(LEVEL, n_envs=3, seed=7, first_index=FIRST)
    assert isinstance(alone, LanguageVecEnv)
    chosen = actions(alone, STEPS)
    expected = played(alone, 7, chosen)
    assert played(processes, 7, chosen) == expected
    assert played(processes, 8, chosen) != expected
    assert sum(done for _, _, done, _, _ in expected[0]) >= 2


def test_what_was_fulfilled_comes_through_the_vectors_and_a_history(processes: VecEnv) -> None:
    assert isinstance(processes, ProcessLanguageVecEnv)
    alone = make(LEVEL, n_envs=3, seed=7, first_index=FIRST)
    remembering = make(LEVEL, n_envs=3, seed=7, first_index=FIRST, history=3)
    chosen = actions(alone, STEPS)
    told = []
    for env in (alone, remembering, processes):
        assert isinstance(env, LanguageVecEnv | ProcessLanguageVecEnv)
        env.tell_fulfilled_instructions()
        infos = [rest for row in played(env, 7, chosen) for *_, rest in row]
        told.append([info["fulfilled_instructions"] for info in infos])
        env.tell_fulfilled_instructions(False)
    assert told[0] == told[1] == told[2]
    assert sum(map(len, told[0])) > 3
    assert "fulfilled_instructions" not in played(processes, 7, chosen[:1])[0][0][-1]


def test_what_was_fulfilled_is_the_same_after_coming_back() -> None:
    env, other = (LanguageVecEnv([functools.partial(make_env, LEVEL)] * 2, seed=seed) for seed in (3, 4))
    for each in (env, other):
        each.tell_fulfilled_instructions()
    chosen = actions(env, 60)
    played(env, 3, chosen[:30])
    other.set_state(env.get_state())
    assert transcript(env, chosen[30:]) == transcript(other, chosen[30:])


def test_episodes_do_not_depend_on_the_number_of_environments() -> None:
    one, three = make(LEVEL, n_envs=1, seed=7), make(LEVEL, n_envs=3, seed=7)
    chosen = actions(three, STEPS)
    expected = played(three, 7, chosen)
    assert played(one, 7, [action[:1] for action in chosen])[0] == expected[0]
    last = LanguageVecEnv([functools.partial(make_env, LEVEL)], seed=7, first_index=2)
    assert played(last, 7, [action[2:] for action in chosen])[0] == expected[2]
    assert expected[0] != expected[2]


def test_seed_given_at_the_beginning_is_that_of_seed() -> None:
    env = make(LEVEL, n_envs=2, seed=7)
    env.reset()
    chosen = actions(env, 10)
    assert transcript(env, chosen) == played(make(LEVEL, n_envs=2, seed=1), 7, chosen)


def test_episode_seeds_are_all_different() -> None:
    seeds = {episode_seed(seed, index, episode) for seed in range(4) for index in range(8) for episode in range(32)}
    assert len(seeds) == 4 * 8 * 32
    assert episode_seed(1, 2, 3) == episode_seed(1, 2, 3)


@pytest.mark.parametrize("steps", [0, 10, 70])
def test_state_continues_exactly(steps: int) -> None:
    env = make(LEVEL, n_envs=2, seed=7)
    assert isinstance(env, LanguageVecEnv)
    first = env.reset()
    chosen = actions(env, steps + 100)
    for action in chosen[:steps]:
        first = env.step(action)[0]  # type: ignore[assignment]
    state = json.loads(json.dumps(env.get_state()))
    expected = transcript(env, chosen[steps:])

    fresh = make(LEVEL, n_envs=2, seed=99)
    assert isinstance(fresh, LanguageVecEnv)
    restored = fresh.set_state(state)
    assert {key: value.tolist() for key, value in restored.items()} == {k: v.tolist() for k, v in first.items()}
    assert transcript(fresh, chosen[steps:]) == expected


def test_state_goes_from_processes_to_one_and_back(processes: VecEnv) -> None:
    assert isinstance(processes, ProcessLanguageVecEnv)
    chosen = actions(processes, 120)
    played(processes, 3, chosen[:70])
    state = json.loads(json.dumps(processes.get_state()))
    expected = transcript(processes, chosen[70:])
    alone = make(LEVEL, n_envs=3, first_index=FIRST)
    assert isinstance(alone, LanguageVecEnv)
    alone.set_state(state)
    assert transcript(alone, chosen[70:]) == expected
    processes.set_state(state)
    assert transcript(processes, chosen[70:]) == expected


def test_state_of_another_number_of_environments_is_refused(processes: VecEnv) -> None:
    state = {"seed": 0, "episodes": [0], "actions": [[]]}
    for env in (make(LEVEL, n_envs=2), processes):
        with pytest.raises(ValueError, match=rf"of 1 environments, but there are {env.num_envs}"):
            env.set_state(state)  # type: ignore[attr-defined]


def test_state_keeps_the_exact_numbers_of_box_actions() -> None:
    env, fresh = make("Pendulum-v1", seed=0), make("Pendulum-v1", seed=1)
    assert isinstance(env, LanguageVecEnv)
    assert isinstance(fresh, LanguageVecEnv)
    env.reset()
    for step in range(30):
        env.step(np.array([[np.sin(step)]], dtype=np.float32))
    fresh.set_state(json.loads(json.dumps(env.get_state())))
    states = [one.get_attr("unwrapped")[0].state.tolist() for one in (env, fresh)]
    assert states[0] == states[1]


def test_end_of_an_episode() -> None:
    env = make(LEVEL, n_envs=1, seed=0)
    first = env.reset()
    assert isinstance(first, dict)
    assert first["instruction"].shape == first["observation"].shape == (1,)
    turn = np.zeros(1, dtype=int)
    for _ in range(63):
        _, _, dones, infos = env.step(turn)
        assert not dones[0]
        assert "episode" not in infos[0]
        assert "terminal_observation" not in infos[0]
    observations, rewards, dones, infos = env.step(turn)
    assert isinstance(observations, dict)
    assert dones[0]
    assert (rewards[0], infos[0]["episode"]["r"], infos[0]["episode"]["l"]) == (0, 0, 64)
    assert infos[0]["is_success"] is False
    assert infos[0]["TimeLimit.truncated"] is True
    # 64 turns to the left are 16 whole ones: the last observation is the first, and the next episode's another.
    last = infos[0]["terminal_observation"]
    assert (last["instruction"], last["observation"]) == (first["instruction"][0], first["observation"][0])
    assert observations["observation"][0] != last["observation"]


class Guess(gymnasium.Env[Any, Any]):
    """Speaks the contract by itself: say the word that the instruction asks for."""

    observation_space = language_space(image=spaces.Box(0, 255, (2, 2, 3), np.uint8))
    action_texts = ("yes", "no")
    action_space = TextActions(action_texts)

    def __init__(self, *, tell: bool = True):
        self._tell = tell
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._right, self._step = int(self.np_random.integers(2)), 0
        return self._perceive(), {"right": self._right}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        success = action == self._right
        info = {"is_success": success} if self._tell else {}
        return self._perceive(), float(success), True, True, info

    def _perceive(self) -> dict[str, Any]:
        image = np.full((2, 2, 3), self._step, dtype=np.uint8)
        return {"instruction": f"say {self.action_texts[self._right]}", "observation": "?", "image": image}


def test_environment_that_speaks_for_itself_with_an_image() -> None:
    env = LanguageVecEnv([Guess, Guess], seed=0)
    observations = env.reset()
    assert observations["image"].shape == (2, 2, 2, 3)
    assert observations["image"].dtype == np.uint8
    right = np.array([info["right"] for info in env.reset_infos])
    assert observations["instruction"].tolist() == [f"say {Guess.action_texts[index]}" for index in right]
    _, rewards, dones, infos = env.step(right)
    assert rewards.tolist() == [1, 1]
    assert dones.all()
    assert [info["is_success"] for info in infos] == [True, True]
    # Both ends at once: it ended by its own rules, so there is nothing to bootstrap from.
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    assert infos[0]["terminal_observation"]["image"].max() == 1


def test_untold_success_is_refused() -> None:
    env = LanguageVecEnv([functools.partial(Guess, tell=False)], seed=0)
    env.reset()
    with pytest.raises(ContractError, match=r"Guess.* ended an episode without info\['is_success'\]"):
        env.step(np.zeros(1, dtype=int))


def test_environment_without_words_is_refused() -> None:
    with pytest.raises(ContractError, match="CartPole-v1 does not speak the language contract"):
        LanguageVecEnv([functools.partial(gymnasium.make, "CartPole-v1")])


def test_spaces_and_action_texts() -> None:
    env = make(LEVEL, n_envs=1)
    assert isinstance(env.action_space, TextActions)
    assert env.action_space.texts[0] == "turn left"
    assert not isinstance(make("Pendulum-v1").action_space, TextActions)


def test_attributes_and_methods(processes: VecEnv) -> None:
    for env in (make(LEVEL, n_envs=3), processes):
        assert env.get_attr("render_mode") == [None] * 3
        assert env.env_is_wrapped(Monitor) == [True] * 3
        assert env.env_is_wrapped(VerbalizedEnv, indices=[2]) == [True]
        assert env.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=1) == [False]
        for index in range(3):
            env.set_attr("nickname", f"number {index}", indices=index)
        assert env.get_attr("nickname") == ["number 0", "number 1", "number 2"]
        assert env.get_attr("nickname", indices=[2, 0]) == ["number 2", "number 0"]
        assert env.env_method("get_wrapper_attr", "nickname", indices=[2, 1]) == ["number 2", "number 1"]
        assert env.has_attr("nickname")
        assert not env.has_attr("no_such_attribute")


def test_an_action_that_there_is_not_is_refused_and_costs_no_episode(processes: VecEnv) -> None:
    for env in (processes, make(LEVEL, n_envs=3)):
        env.reset()
        with pytest.raises(ValueError, match="Unknown action: 99, for environment 2, which has 7 actions now"):
            env.step(np.array([0, 0, 99]))
        env.step(np.zeros(3, dtype=int))
        assert env.get_state()["lost"]["count"] == 0  # type: ignore[attr-defined]


def test_whoever_was_interrupted_in_waiting_gets_no_old_answer(processes: VecEnv, monkeypatch: Any) -> None:
    """As by Ctrl-C in a notebook, and the cell run again."""
    alone = make(LEVEL, n_envs=3, seed=7, first_index=FIRST)
    chosen = actions(alone, 70, seed=3)
    for env in (processes, alone):
        played(env, 7, chosen[:5])
    with monkeypatch.context() as patch:
        patch.setattr(PipeTransport, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            processes.step(chosen[5])
    alone.step(chosen[5])
    assert processes.get_state() != alone.get_state()  # type: ignore[attr-defined]
    steps = [[env.step(chosen[6])[0] for env in (processes, alone)]]  # the step before was taken all the same
    assert processes.get_state() == alone.get_state()  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(PipeTransport, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            processes.step(chosen[7])
    alone.step(chosen[7])
    steps.append([env.reset() for env in (processes, alone)])
    for theirs, ours in steps:
        assert list(theirs["observation"]) == list(ours["observation"])  # type: ignore[call-overload]
    assert transcript(processes, chosen) == transcript(alone, chosen)


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_error_in_a_process_comes_through() -> None:
    env = ProcessLanguageVecEnv([Guess, functools.partial(Guess, tell=False)], processes=2, seed=0)
    try:
        env.reset()
        with pytest.raises(ContractError, match=r"ended an episode without info\['is_success'\]") as caught:
            env.step(np.zeros(2, dtype=int))
        assert "success_of" in str(caught.value.__cause__)  # where it happened, for whoever must fix it
        assert env.get_state()["episodes"] == [1, 0]  # the other one has answered, and begun its next episode
        env.reset()
    finally:
        env.close()


def test_failure_to_make_comes_through_as_it_is() -> None:
    factory = functools.partial(make_env, "BabyAI-GoToNowhere-v0")
    with pytest.raises(UnknownEnvironmentError, match="There is no environment 'BabyAI-GoToNowhere-v0'"):
        ProcessLanguageVecEnv([factory], processes=1)


def test_sb3s_own_vector_cannot_carry_words() -> None:
    """If this fails one day, `LanguageVecEnv` may have become superfluous."""
    with pytest.raises(TypeError):
        DummyVecEnv([functools.partial(make_env, LEVEL)]).reset()


# -- groups ------------------------------------------------------------------------------------------------------


def ended(env: VecEnv, chosen: list[Any]) -> list[tuple[tuple[int, int], Any]]:
    """Play, and return the group and the first words of each episode that ended."""
    observations: Any = env.reset()
    beginnings = list(zip(*observations.values(), strict=True))
    found = []
    for action in chosen:
        observations, _, dones, infos = env.step(action)
        for index in np.flatnonzero(dones):
            found.append((infos[index]["episode_group"], beginnings[index]))
            beginnings[index] = tuple(texts[index] for texts in observations.values())
    return found


def test_episodes_of_a_group_begin_alike_and_each_seed_is_played_as_often() -> None:
    env = make("BabyAI-GoToObjS4-v0", n_envs=6, seed=7, group_size=3)
    groups: dict[tuple[int, int], list[Any]] = {}
    for group, beginning in ended(env, actions(env, 400)):
        groups.setdefault(group, []).append(beginning)
    assert all(len(set(beginnings)) == 1 for beginnings in groups.values())
    assert len({beginnings[0] for beginnings in groups.values()}) > len(groups) / 2
    assert max(map(len, groups.values())) == 3
    for first in range(2):  # of each row, all but the newest groups are whole, though no environment waits
        sizes = [len(groups[group]) for group in sorted(groups) if group[0] == first]
        assert len(sizes) > 8
        assert sizes[:-3] == [3] * len(sizes[:-3])


def test_groups_of_one_are_the_episodes_without_groups() -> None:
    one, plain = make(LEVEL, n_envs=3, seed=7, group_size=1), make(LEVEL, n_envs=3, seed=7)
    chosen = actions(one, STEPS)
    assert played(one, 7, chosen) == played(plain, 7, chosen)
    assert episode_seed(7, 2, 1) != episode_seed(7, 1, 2)


def test_groups_are_the_same_in_processes_and_come_back_there() -> None:
    alone = make(LEVEL, n_envs=4, seed=7, group_size=2)
    spread = make(LEVEL, n_envs=4, seed=7, group_size=2, processes=3)  # two groups are two processes at most
    try:
        chosen = actions(alone, STEPS)
        assert played(spread, 7, chosen) == played(alone, 7, chosen)
        assert isinstance(alone, LanguageVecEnv)
        assert spread.get_state() == alone.get_state()  # type: ignore[attr-defined]
        again = make(LEVEL, n_envs=4, seed=0, group_size=2)
        again.set_state(json.loads(json.dumps(alone.get_state())))  # type: ignore[attr-defined]
        more = actions(alone, STEPS, seed=1)
        assert transcript(again, more) == transcript(alone, more)
    finally:
        spread.close()


def test_a_reset_begins_whole_groups() -> None:
    env = make("BabyAI-GoToObjS4-v0", n_envs=4, seed=7, group_size=4)
    ended(env, actions(env, 37))
    for _ in range(3):
        observations: Any = env.reset()
        assert len(set(observations["observation"])) == 1


def test_environments_that_make_no_groups_are_refused() -> None:
    for size in (0, 3):
        with pytest.raises(ValueError, match=f"4 environments cannot be parted into groups of {size}"):
            make(LEVEL, n_envs=4, group_size=size)


class _Named(Buttons):
    """Has other texts, as many."""

    action_texts = ("take red", "take green", "take blue")


class _Wider(Buttons):
    """Has an auxiliary observation."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = language_space(numbers=spaces.Box(0, 1, (2,), np.float32))


@pytest.mark.parametrize(("other", "what"), [(_Named, "action_texts"), (_Wider, "observation_space")])
def test_environments_that_differ_make_no_vector(other: Any, what: str) -> None:
    with pytest.raises(ContractError, match=f"are alike, but the {what} of environment 6 is .*, and of environment 4"):
        LanguageVecEnv([Buttons, Buttons, other], first_index=4)


def test_environments_that_differ_make_no_vector_over_processes_either() -> None:
    with pytest.raises(ContractError, match=r"the action_space of environment 1 is .*take red.*, and of environment 0"):
        ProcessLanguageVecEnv([Buttons, _Named], processes=2)
