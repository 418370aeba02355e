"""Deep Sea: one way to the treasure, its costs, and words that tell places apart."""

from __future__ import annotations

from itertools import product

import pytest

from heed.envs import check_env, make_env
from heed.envs.classic.deep_sea import DeepSea


def test_it_keeps_the_contract() -> None:
    assert [check.name for check in check_env("Heed/DeepSea-v0") if not check.passed] == []
    assert make_env("Heed/DeepSea-v0", size=4).unwrapped.size == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("level_seed", [0, 1])
def test_exactly_one_sequence_of_levers_finds_the_treasure(level_seed: int) -> None:
    env = DeepSea(size=5, level_seed=level_seed)
    outcomes = []
    for actions in product((0, 1), repeat=5):
        env.reset()
        rewards, texts = [], set()
        for depth, action in enumerate(actions):
            words, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            texts.add(words["observation"])
            assert (terminated, truncated) == (depth == 4, False)
        assert len(texts) == 5
        outcomes.append((info["is_success"], round(sum(rewards), 6)))
    assert sorted(outcomes)[-1] == (True, 0.99)
    assert sum(success for success, _ in outcomes) == 1
    # All others pay for their drifts to the right, at most four of five.
    assert {value for success, value in outcomes if not success} <= {0.0, -0.002, -0.004, -0.006, -0.008}


def test_levers_differ_from_place_to_place() -> None:
    sea = DeepSea(size=10)
    assert 0 < sea.right.diagonal().sum() < 10
    assert (sea.right != DeepSea(size=10, level_seed=1).right).any()
    with pytest.raises(ValueError, match="at least 2"):
        DeepSea(size=1)
