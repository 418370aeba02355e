"""The worker protocol knows no pipes: over another transport episodes are the same, and a lost worker costs as much."""

from __future__ import annotations

import functools

import pytest

from heed.envs import make
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv, Transport, episode_seed
from tests.envs.test_faults import actions, transcript
from tests.faulty import Broken
from tests.socket_transport import SocketTransport

pytestmark = pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")

LEVEL = "BabyAI-GoToLocal-v0"
PATIENCE = 0.5
"""Seconds that a step may take here."""
BREAK = {0: episode_seed(0, 0, 1), 3: episode_seed(0, 3, 2)}
"""In which episode of which environment."""


def broken(transport: Transport | None) -> ProcessLanguageVecEnv:
    """Four environments over two workers: the first one brings its worker down, the last one hangs for good."""
    factories = [
        functools.partial(Broken, kind, frozenset({BREAK[index]} if index in BREAK else ()))
        for index, kind in enumerate(("kill", "raise", "raise", "native"))
    ]
    return ProcessLanguageVecEnv(factories, processes=2, seed=0, step_timeout=PATIENCE, transport=transport)


def test_another_transport_gives_the_same_episodes_bit_for_bit() -> None:
    alone = make(LEVEL, n_envs=3, seed=7)
    spread = make(LEVEL, n_envs=3, seed=7, processes=2, transport=SocketTransport())
    try:
        assert isinstance(spread, ProcessLanguageVecEnv)
        assert isinstance(alone, LanguageVecEnv)
        began, expected = spread.reset(), alone.reset()
        assert {key: value.tolist() for key, value in began.items()} == {
            key: value.tolist() for key, value in expected.items()
        }
        chosen = [action * 2 for action in actions(alone, 150)]  # to the left, and forward
        assert transcript(spread, chosen) == transcript(alone, chosen)
        assert spread.get_state() == alone.get_state()
        assert spread.get_attr("max_steps") == alone.get_attr("max_steps")
    finally:
        spread.close()


def test_a_lost_worker_costs_its_episodes_only_whatever_the_transport() -> None:
    alone = LanguageVecEnv([functools.partial(Broken, "raise", frozenset(BREAK.values()))] * 4, seed=0)
    chosen = actions(alone, 16)
    alone.reset()
    expected = transcript(alone, chosen)
    lost = [(record.env, record.seed, record.step) for record in alone.lost_episodes]
    for_good = f"HangError: step did not return within {PATIENCE:g} s, and could not be interrupted"
    died = "ProcessError: the environment's process died, "
    for transport, how in ((None, "killed by SIGKILL"), (SocketTransport(), "with status -9")):
        spread = broken(transport)
        try:
            spread.reset()
            given = transcript(spread, chosen)
            reasons = {rows[-1].pop("episode_lost") for env in given for rows in env if "episode_lost" in rows[-1]}
            assert reasons == {f"{died}{how}", for_good}
            assert [(record.env, record.seed, record.step) for record in spread.lost_episodes] == lost
            assert spread.restarts == 2
            spread.reset()
        finally:
            spread.close()
        for env in (*expected, *given):
            for rows in env:
                rows[-1].pop("episode_lost", None)
        assert given == expected


def test_a_transport_needs_processes() -> None:
    with pytest.raises(ValueError, match="processes=2 or more"):
        make(LEVEL, transport=SocketTransport())
