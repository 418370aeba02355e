"""What an expert by planning does, against problems worked out by hand."""

from typing import Any

import numpy as np
import pytest

from heed.envs.classic.planned_expert import backward_induction
from heed.envs.make import make_env

SAFE, RISKY = 0, 1


def gamble(chance: float) -> dict[int, dict[int, list[tuple[Any, ...]]]]:
    """Give 1 at once, or with a chance come to a state that gives 3."""
    on = [(chance, 1, 0.0, False), (1 - chance, 0, 0.0, True)]
    paid = [(1.0, 1, 3.0, True)]
    return {0: {SAFE: [(1.0, 0, 1.0, True)], RISKY: on}, 1: {SAFE: paid, RISKY: paid}}


@pytest.mark.parametrize(("chance", "with_two_steps"), [(0.34, RISKY), (0.33, SAFE)])  # 1.02 and 0.99 against 1
def test_an_action_is_best_for_the_steps_that_are_left(chance: float, with_two_steps: int) -> None:
    plan = backward_induction(gamble(chance), steps=3)
    assert plan[:, 0].tolist() == [SAFE, with_two_steps, with_two_steps]


def expected_success(plan: np.ndarray, table: Any, start: int, steps: int) -> float:
    """Return how likely a reward of 1 is, with the distribution over states carried forward step by step."""
    likely = {start: 1.0}
    success = 0.0
    for left in range(steps, 0, -1):
        after: dict[int, float] = {}
        for state, probability in likely.items():
            for chance, following, reward, terminated in table[state][int(plan[left - 1, state])]:
                success += probability * chance * reward
                if not terminated:
                    after[following] = after.get(following, 0.0) + probability * chance
        likely = after
    return success


def test_the_slippery_lake_is_crossed_three_times_in_four() -> None:
    env = make_env("FrozenLake-v1")
    world: Any = env.unwrapped
    plan = backward_induction(world.P, 100)
    # Without a limit the goal is reached with probability 14/17 = 0.824.
    assert expected_success(plan, world.P, 0, 100) == pytest.approx(0.744, abs=0.002)
    patient = backward_induction(world.P, 3_000)
    assert expected_success(patient, world.P, 0, 3_000) == pytest.approx(14 / 17, abs=1e-3)


@pytest.mark.parametrize(
    ("env_id", "expected"),
    # The lake without ice takes 6 steps; the cliff is walked round in 13; a taxi gets 20 for a ride and pays a step.
    [("FrozenLake-v1", (1.0, 6)), ("CliffWalking-v1", (-13.0, 13))],
)
def test_the_shortest_way_is_walked(env_id: str, expected: tuple[float, int]) -> None:
    options: dict[str, Any] = {"is_slippery": False} if "Lake" in env_id else {}
    env = make_env(env_id, **options)
    env.reset(seed=0)
    total, steps, over = 0.0, 0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.get_wrapper_attr("expert_action")())
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    assert (total, steps) == expected


def test_every_ride_of_the_taxi_is_paid() -> None:
    env = make_env("Taxi-v4")
    for seed in range(20):
        env.reset(seed=seed)
        over, steps = False, 0
        while not over:
            _, reward, terminated, truncated, info = env.step(env.get_wrapper_attr("expert_action")())
            steps, over = steps + 1, terminated or truncated
        assert info["is_success"]
        assert reward == 20
        assert steps <= 19  # two corners of the map, and the two actions between them
