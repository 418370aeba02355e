"""Blank and swapped instructions: what the agent is told changes, and nothing else does."""

from typing import Any

import numpy as np
import pytest

from heed.envs.instructions import SwappedInstruction
from heed.envs.make import instruction_pool, make_env

LEVEL = "BabyAI-GoToLocal-v0"


def episode(env: Any, seed: int) -> list[tuple[str, Any]]:
    """The instruction and all else of every step of an episode with fixed actions."""
    words, _ = env.reset(seed=seed)
    said = [(words["instruction"], words["observation"])]
    for step in range(1000):
        words, *result = env.step((0, 2, 2)[step % 3])
        said.append((words["instruction"], (words["observation"], *result)))
        if result[1] or result[2]:
            return said
    raise AssertionError("the episode did not end")


def test_blank_instruction_changes_nothing_else() -> None:
    true, blank = episode(make_env(LEVEL), 3), episode(make_env(LEVEL, instructions="blank"), 3)
    assert {instruction for instruction, _ in blank} == {""}
    assert [rest for _, rest in blank] == [rest for _, rest in true]


def test_swapped_instruction_changes_nothing_else() -> None:
    env, swapped = make_env(LEVEL), make_env(LEVEL, instructions="swapped")
    for seed in range(5):
        true, other = episode(env, seed), episode(swapped, seed)
        assert [rest for _, rest in other] == [rest for _, rest in true]
        (shown,) = {instruction for instruction, _ in other}  # one through the whole episode
        assert shown != true[0][0]
        assert shown in instruction_pool(LEVEL)


def shown(seeds: range, pool: tuple[str, ...] | None = None) -> list[str]:
    env = SwappedInstruction(make_env(LEVEL), pool or instruction_pool(LEVEL))
    return [env.reset(seed=seed)[0]["instruction"] for seed in seeds]


def test_swapped_instruction_follows_from_the_seed() -> None:
    assert shown(range(10)) == shown(range(10))
    assert shown(range(5, 10)) == shown(range(10))[5:]
    assert len(set(shown(range(10)))) > 5


def test_swapped_instruction_does_not_echo_the_level() -> None:
    """Drawn from a generator with the episode's very seed, the swap would follow the level's own first draw."""
    env = SwappedInstruction(make_env(LEVEL), ("first", "second"))
    pairs = {
        (env.reset(seed=seed)[0]["instruction"], int(np.random.default_rng(seed).integers(2))) for seed in range(60)
    }
    assert len(pairs) == 4


def test_swapped_instruction_without_a_seed_leaves_the_level_alone() -> None:
    plain, swapped = make_env(LEVEL), make_env(LEVEL, instructions="swapped")
    for env in (plain, swapped):
        env.reset(seed=1)
    assert plain.reset()[0]["observation"] == swapped.reset()[0]["observation"]
    assert plain.reset()[0]["observation"] == swapped.reset()[0]["observation"]


def test_level_with_one_instruction_cannot_be_swapped() -> None:
    with pytest.raises(ValueError, match=r"one instruction only.*go to the red ball"):
        make_env("BabyAI-GoToRedBallNoDists-v0", instructions="swapped")


def test_pool_is_sorted_and_follows_the_environments_arguments() -> None:
    pool = instruction_pool(LEVEL)
    assert list(pool) == sorted(set(pool))
    assert instruction_pool(LEVEL, episodes=1) == (make_env(LEVEL).reset(seed=0)[0]["instruction"],)
    assert instruction_pool(LEVEL, num_dists=1) != pool
