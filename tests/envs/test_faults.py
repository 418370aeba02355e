"""An environment's fault costs its episode, is told and counted, and nothing else changes."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv

from heed.envs.contract import ContractError
from heed.envs.faults import (
    KEPT_REASONS,
    KEPT_RECORDS,
    OTHER_REASONS,
    LostEpisode,
    LostEpisodes,
    LostEpisodeWarning,
    TooManyLostEpisodesError,
    told_losses,
)
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv, episode_seed
from heed.envs.vectorize.workers.pipes import PipeConnection
from heed.envs.watchdog import HangError, Watchdog
from tests.faulty import Broken, Injected

pytestmark = pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")

SEEDS = [[episode_seed(0, index, episode) for episode in range(40)] for index in range(6)]
"""Of the episodes of six environments with the seed 0."""

LIMIT = 0.2
"""Seconds for what hangs: much more than a step takes, also where others use the processor."""

REASONS = {
    "raise": "ValueError: it broke",
    "sleep": "HangError: step did not return within 0.2 s",
    "loop": "HangError: step did not return within 0.2 s",
    "nan": "FaultError: the reward was nan, which is not finite",
    "infinite": "FaultError: the reward was inf, which is not finite",
    "no number": "ValueError: could not convert string to float: 'much'",
    "no key": "FaultError: the observation had no 'observation', only instruction, numbers",
    "no text": "FaultError: the observation's 'observation' was None, which is no string",
    "shape": "FaultError: the observation's 'numbers' had the shape (3,), but its space (2,)",
    "not finite": "FaultError: the observation's 'numbers' held numbers that are not finite",
    "type": "FaultError: the observation's 'numbers' was array(['1', '2']",
    "actions": "FaultError: Two actions share the text 'yes'",
    "space": "FaultError: the observation_space became Dict(",
    "action space": "FaultError: the action_space became Discrete(3), but was Discrete(2)",
    "texts": "FaultError: the action_texts became ('yes', 'perhaps'), but were ('yes', 'no')",
}


def vector(kind: str, seeds: set[int], *, step: int = 2, n_envs: int = 2, **options: Any) -> LanguageVecEnv:
    factory = functools.partial(Broken, kind, frozenset(seeds), step)
    limit = {"step_timeout": LIMIT, "reset_timeout": LIMIT} if kind in ("sleep", "loop") else {}
    return LanguageVecEnv([factory] * n_envs, **{"seed": 0, **limit, **options})


def actions(env: VecEnv, steps: int) -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.integers(2, size=env.num_envs) for _ in range(steps)]


def transcript(env: VecEnv, chosen: list[Any]) -> list[list[Any]]:
    """For each environment all that it gave, without the clock's time."""
    given: list[list[Any]] = [[] for _ in range(env.num_envs)]
    for action in chosen:
        observations, rewards, dones, infos = env.step(action)
        assert isinstance(observations, dict)
        for index, info in enumerate(infos):
            words = {key: np.asarray(value[index]).tolist() for key, value in observations.items()}
            rest = json.loads(json.dumps({k: v for k, v in info.items() if k != "episode"}, default=np.ndarray.tolist))
            length = info.get("episode", {}).get("l")
            given[index].append((words, float(rewards[index]), bool(dones[index]), length, rest))
    return given


@pytest.mark.parametrize("kind", REASONS)
def test_a_fault_in_a_step_costs_the_episode_and_nothing_else(kind: str) -> None:
    lost = SEEDS[0][1]
    env, whole = vector(kind, {lost}), vector(kind, set())
    env.reset()
    whole.reset()
    broken, expected = transcript(env, actions(env, 16)), transcript(whole, actions(env, 16))
    assert broken[1] == expected[1]  # the other environment
    assert broken[0][:5] == expected[0][:5]
    words, reward, done, length, info = broken[0][5]
    assert (reward, done, length) == (0.0, True, None)
    assert words["observation"] == f"step 0 of {SEEDS[0][2]}"
    assert "is_success" not in info
    assert info.pop("episode_lost").startswith(REASONS[kind])
    assert info.pop("terminal_observation") == broken[0][4][0]  # what was seen before
    assert info == {"TimeLimit.truncated": True}
    # From there on: the episode that would have begun after the lost one, which had two steps left.
    assert [one[0] for one in broken[0][6:]] == [one[0] for one in expected[0][8:]] + [b[0] for b in broken[0][14:]]
    (record,) = env.lost_episodes
    assert (record.env, record.seed, record.step) == (0, lost, 2)
    assert record.reason.startswith(REASONS[kind])
    assert "in " in record.traceback
    assert env.lost_count == 1
    assert list(env.lost_summary().values()) == [1]


@pytest.mark.parametrize("kind", ["raise", "sleep", "no key", "space"])
def test_a_reset_that_fails_is_a_lost_episode_and_the_next_one_begins(kind: str) -> None:
    env = vector(kind, {SEEDS[0][0], SEEDS[0][2], SEEDS[0][3]}, step=0)
    observations = env.reset()
    assert observations["observation"][0] == f"step 0 of {SEEDS[0][1]}"
    *_, (words, _, done, length, info) = transcript(env, actions(env, 4))[0]
    assert (done, length, "episode_lost" in info) == (True, 4, False)  # the episode before it ended as it should
    assert words["observation"] == f"step 0 of {SEEDS[0][4]}"
    assert [(record.seed, record.step) for record in env.lost_episodes] == [(SEEDS[0][e], 0) for e in (0, 2, 3)]


def test_success_rate_and_returns_know_nothing_of_lost_episodes() -> None:
    env = LanguageVecEnv([functools.partial(Injected, 0.2, 0.0)] * 4, seed=0, max_lost=1000)
    env.reset()
    lengths, lost = [], 0
    for action in actions(env, 100):
        _, _, dones, infos = env.step(action)
        for done, info in zip(dones, infos, strict=True):
            assert ("episode" in info) == ("is_success" in info and bool(done))
            lengths += [info["episode"]["l"]] if "episode" in info else []
            lost += "episode_lost" in info
    assert lost == env.lost_count > 20
    assert min(lengths) >= 4  # what an episode has at least, where it was not cut off


def test_an_environment_that_says_nothing_of_success_is_an_error_at_once() -> None:
    class Silent(Injected):
        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return {"instruction": "", "observation": ""}, 0.0, True, False, {}

    env = LanguageVecEnv([Silent], seed=0)
    env.reset()
    with pytest.raises(ContractError, match="without info"):
        env.step(np.zeros(1, dtype=int))


# -- limits ------------------------------------------------------------------------------------------------------


def test_one_lost_episode_after_the_other_ends_it_with_the_reasons() -> None:
    env = LanguageVecEnv([functools.partial(Injected, 1.0, 0.0)] * 2, seed=0, max_lost=5)
    env.reset()
    with pytest.raises(TooManyLostEpisodesError) as caught:
        transcript(env, actions(env, 10))
    assert env.lost_count == 6
    message = str(caught.value)
    assert "6 episodes in a row were lost, and max_lost allows 5" in message
    assert "6 episodes were lost: 6 times ZeroDivisionError: injected." in message
    assert 'raise ZeroDivisionError("injected")' in message  # where
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_reset_that_always_fails_does_not_go_on_for_ever() -> None:
    env = vector("raise", set(SEEDS[0]), step=0, max_lost=7)
    with pytest.raises(TooManyLostEpisodesError, match="8 times ValueError: it broke"):
        env.reset()


def test_an_episode_that_ends_sets_the_count_back() -> None:
    log = LostEpisodes(1, limit=2)
    lost = LostEpisode(env=0, seed=1, step=2, reason="r", traceback="")
    for _ in range(5):
        log.note(lost)
        log.note(lost)
        log.note(None)
    assert (log.count, log.in_a_row) == (10, 0)
    log.note(lost)
    log.note(lost)
    with pytest.raises(TooManyLostEpisodesError):
        log.note(lost)


def test_the_limit_grows_with_the_environments_and_none_may_be_allowed() -> None:
    assert [LostEpisodes(n).limit for n in (1, 10, 64)] == [100, 100, 640]
    env = vector("raise", {SEEDS[0][0]}, max_lost=0)
    env.reset()
    with pytest.raises(TooManyLostEpisodesError, match="An episode was lost, and max_lost allows 0"):
        transcript(env, actions(env, 2))
    for options in ({"max_lost": -1}, {"step_timeout": 0}, {"reset_timeout": -1.0}):
        with pytest.raises(ValueError, match="must"):
            vector("raise", set(), **options)


def test_records_and_reasons_are_bounded_but_all_are_counted() -> None:
    log = LostEpisodes(1, limit=10**6)
    for number in range(KEPT_RECORDS + 5):
        log.note(LostEpisode(env=0, seed=number, step=1, reason=f"reason {number}", traceback=""))
    assert (len(log.records), log.count, log.records[0].seed) == (KEPT_RECORDS, KEPT_RECORDS + 5, 5)
    assert len(log.reasons) == KEPT_REASONS + 1
    assert log.reasons[OTHER_REASONS] == KEPT_RECORDS + 5 - KEPT_REASONS


def test_what_is_said_of_losses() -> None:
    assert told_losses({}) == "No episode was lost."
    assert told_losses({"a": 1}) == "1 episode was lost: once a."
    assert told_losses({"a": 1, "b": 3}) == "4 episodes were lost: 3 times b; once a."
    assert told_losses(dict.fromkeys("abc", 1), most=2) == "3 episodes were lost: once a; once b; and 1 reasons more."


def test_the_first_loss_is_told_in_a_warning_and_only_that() -> None:
    env = vector("raise", set(SEEDS[0]))
    env.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transcript(env, actions(env, 9))
    (warning,) = caught
    assert warning.category is LostEpisodeWarning
    assert f"environment 0, seed {SEEDS[0][0]}, step 2: ValueError: it broke" in str(warning.message)


# -- continuing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 17, 60])
def test_a_state_continues_exactly_with_its_losses(steps: int) -> None:
    factory = functools.partial(Injected, 0.1, 0.0)
    env, fresh = (LanguageVecEnv([factory] * 3, seed=seed) for seed in (0, 9))
    env.reset()
    chosen = actions(env, 160)
    transcript(env, chosen[:steps])
    state = json.loads(json.dumps(env.get_state()))
    fresh.set_state(state)
    assert transcript(fresh, chosen[steps:]) == transcript(env, chosen[steps:])
    assert fresh.get_state() == env.get_state()
    assert env.get_state()["lost"]["count"] == env.lost_count > 10


@pytest.mark.parametrize("step", [0, 2])
def test_an_episode_that_cannot_be_brought_back_is_lost_and_the_next_step_says_so(step: int) -> None:
    env = vector("raise", set())
    env.reset()
    transcript(env, actions(env, 7))  # in the second episode of both, after three steps
    state = json.loads(json.dumps(env.get_state()))
    broken = vector("raise", {SEEDS[1][1]}, step=step)
    observations = broken.set_state(state)
    assert observations["observation"].tolist() == [f"step 3 of {SEEDS[0][1]}", f"step 0 of {SEEDS[1][2]}"]
    # The news are part of the state.
    again = vector("raise", set())
    again.set_state(json.loads(json.dumps(broken.get_state())))
    for each in (broken, again):
        first, second = (rows[0] for rows in transcript(each, [np.zeros(2, dtype=int)]))
        assert (first[0]["observation"], first[2]) == (f"step 0 of {SEEDS[0][2]}", True)
        assert (second[0]["observation"], second[1], second[2]) == (f"step 0 of {SEEDS[1][2]}", 0.0, True)
        assert second[-1]["episode_lost"] == "ValueError: it broke"
        assert second[-1]["observation_unknown"]
        assert each.lost_count == 1
        (row,) = transcript(each, [np.zeros(2, dtype=int)])[1]
        assert row[0]["observation"] == f"step 1 of {SEEDS[1][2]}"


def test_what_a_group_shares_is_told_of_a_lost_episode_too() -> None:
    env = LanguageVecEnv([functools.partial(Injected, 0.1, 0.0)] * 4, seed=0, group_size=2)
    env.reset()
    for action in actions(env, 60):
        for done, info in zip(*env.step(action)[2:], strict=True):
            assert ("episode_group" in info) == bool(done)
    assert env.lost_count > 10


# -- the watchdog ------------------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_interrupted_and_others_are_let_be() -> None:
    with Watchdog() as watchdog:
        assert watchdog.call("add", 0.05, lambda a, b: a + b, 1, b=2) == 3
        time.sleep(0.08)  # between calls nothing is interrupted
        began = time.monotonic()
        with pytest.raises(HangError, match=r"wait did not return within 0.05 s"):
            watchdog.call("wait", 0.05, time.sleep, 5)
        assert time.monotonic() - began < 2
        with pytest.raises(AttributeError):
            watchdog.call("look up", 0.05, int.__getattribute__, 1, "words")
        assert watchdog.call("anything", None, time.sleep, 0.07) is None


def test_whoever_else_uses_the_alarm_finds_it_as_it_was() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))

    def nested() -> None:
        with Watchdog() as inner, pytest.raises(HangError, match="inner did not return within"):
            inner.call("inner", 0.05, time.sleep, 5)
        time.sleep(5)

    try:
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        with Watchdog() as outer, pytest.raises(HangError, match="outer did not return within"):
            outer.call("outer", 0.3, nested)
        assert not rung
        time.sleep(0.6)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_outside_the_main_thread_a_late_call_is_told() -> None:
    caught: list[warnings.WarningMessage] = []

    def late() -> None:
        with Watchdog() as watchdog, warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            for _ in range(2):
                watchdog.call("step", 0.01, time.sleep, 0.03)
            caught.extend(noted)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    (warning,) = caught
    assert "outside the main thread nothing can interrupt it" in str(warning.message)


# -- processes ---------------------------------------------------------------------------------------------------


BREAK = {0: SEEDS[0][1], 4: SEEDS[4][2], 5: SEEDS[5][3]}
"""In which episode of which environment."""
MEET = {2: SEEDS[2][0], 3: SEEDS[3][0]}
PATIENCE = 1.0
"""Seconds that a step may take here, where processes wait for each other."""
DIED = "ProcessError: the environment's process died, killed by SIGKILL"
HUNG = f"HangError: step did not return within {PATIENCE:g} s"


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessLanguageVecEnv]:
    """Six environments over two processes: the first one dies, the last two hang, one of them for good.

    Those in the middle, of different processes, each wait in their second step until the other one is there.
    """
    kinds = ("kill", "raise", "meet", "meet", "sleep", "native")
    place, seeds = str(tmp_path_factory.mktemp("meeting")), {**BREAK, **MEET}
    factories = [
        functools.partial(Broken, kind, frozenset({seeds[index]} if index in seeds else ()), 2, place)
        for index, kind in enumerate(kinds)
    ]
    env = ProcessLanguageVecEnv(factories, processes=2, seed=0, step_timeout=PATIENCE)
    yield env
    env.close()


def raising() -> LanguageVecEnv:
    """The same in one process, with environments that raise in the same places."""
    return LanguageVecEnv([functools.partial(Broken, "raise", frozenset(BREAK.values()))] * 6, seed=0)


def test_a_process_that_dies_or_hangs_costs_one_episode_and_the_others_go_on_exactly(
    spread: ProcessLanguageVecEnv,
) -> None:
    alone = raising()
    chosen = actions(alone, 20)
    alone.reset()
    spread.reset()
    expected, given = transcript(alone, chosen), transcript(spread, chosen)
    reasons = []
    for rows in (*expected, *given):
        reasons += [row[-1].pop("episode_lost") for row in rows if "episode_lost" in row[-1]]
    assert given == expected
    for_good = f"{HUNG}, and could not be interrupted"
    assert reasons == ["ValueError: it broke"] * 3 + [DIED, HUNG, for_good]
    assert [(lost.env, lost.seed, lost.step, lost.reason) for lost in spread.lost_episodes] == [
        (0, BREAK[0], 2, DIED),
        (4, BREAK[4], 2, HUNG),
        (5, BREAK[5], 2, for_good),
    ]
    assert [lost.seed for lost in alone.lost_episodes] == list(BREAK.values())
    assert spread.restarts == 2
    assert spread.lost_summary() == {DIED: 1, HUNG: 1, for_good: 1}
    state, other = spread.get_state(), alone.get_state()
    assert state["lost"].pop("reasons") != other["lost"].pop("reasons")
    assert state == other
    # And back to here.
    state = json.loads(json.dumps(spread.get_state()))
    assert transcript(spread, chosen[:9]) == transcript(alone, chosen[:9])
    for env in (alone, spread):
        env.set_state(state)
    assert transcript(spread, chosen[:9]) == transcript(alone, chosen[:9])
    assert spread.lost_count == 3


def test_a_process_killed_from_outside_loses_nothing(spread: ProcessLanguageVecEnv) -> None:
    alone = raising()
    alone.set_state(spread.get_state())
    before = spread.lost_count
    connection = spread._workers[0].connection
    assert isinstance(connection, PipeConnection)
    os.kill(connection.process.pid or 0, signal.SIGKILL)
    connection.process.join()
    chosen = actions(alone, 3)
    with pytest.warns(LostEpisodeWarning, match="killed by SIGKILL, while no environment was at work"):
        given = transcript(spread, chosen)
    assert given == transcript(alone, chosen)
    assert spread.lost_count == before


def test_too_many_losses_in_processes(spread: ProcessLanguageVecEnv) -> None:
    spread._log.limit = 0
    spread.seed(0)  # the same episodes again
    spread.reset()
    with pytest.raises(TooManyLostEpisodesError, match=f"once {HUNG}"):
        transcript(spread, actions(spread, 20)[10:])
