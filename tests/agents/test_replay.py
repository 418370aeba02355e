"""The replay buffer: n-step transitions, priorities and kept episodes, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces

from heed.agents.replay.buffer import PRIORITY_EPSILON, ReplayBuffer

SPACE = spaces.Box(0, 1000, shape=(2,), dtype=np.int16)


def make_buffer(capacity: int = 8, **options: Any) -> ReplayBuffer:
    return ReplayBuffer(capacity, SPACE, **{"seed": 0, **options})


def prompt(number: int) -> npt.NDArray[np.int16]:
    """An observation that tells which it is."""
    return np.full(2, number, dtype=np.int16)


def add(buffer: ReplayBuffer, number: int, reward: float, end: str = "") -> None:
    """Add a step from observation `number` to the next one, of an environment that is alone."""
    buffer.add(
        prompt(number)[None],
        prompt(number + 1)[None],
        np.array([number % 7]),
        np.array([reward], dtype=np.float32),
        np.array([bool(end)]),
        [{"TimeLimit.truncated": end == "truncated"}],
    )


def rows(buffer: ReplayBuffer) -> list[tuple[int, int, float, int, float]]:
    """All transitions: from which observation, action, rewards, to which observation, discount."""
    return [
        (
            int(buffer.observations[place, 0]),
            int(buffer.actions[place]),
            float(buffer.rewards[place]),
            int(buffer.next_observations[place, 0]),
            float(buffer.discounts[place]),
        )
        for place in range(buffer.size)
    ]


def test_n_step_returns_are_discounted_and_stop_at_the_episodes_end() -> None:
    buffer = make_buffer(n_steps=3, gamma=0.5)
    for number, reward in enumerate([1.0, 2.0, 4.0]):
        add(buffer, number, reward)
    assert rows(buffer) == [(0, 0, 1 + 2 / 2 + 4 / 4, 3, 0.125)], "two steps wait for what comes"
    add(buffer, 3, 8.0, end="terminated")
    add(buffer, 10, 16.0)
    # From 1: 2 + 4/2 + 8/4; from 2: 4 + 8/2; from 3: 8; all end where there is nothing to bootstrap from.
    assert rows(buffer)[1:] == [(1, 1, 6.0, 4, 0.0), (2, 2, 8.0, 4, 0.0), (3, 3, 8.0, 4, 0.0)]


def test_a_time_limit_is_bootstrapped_through_with_the_discount_of_the_steps_that_were() -> None:
    buffer = make_buffer(n_steps=3, gamma=0.5)
    add(buffer, 0, 1.0)
    add(buffer, 1, 2.0, end="truncated")
    assert rows(buffer) == [(0, 0, 2.0, 2, 0.25), (1, 1, 2.0, 2, 0.5)]


def test_environments_do_not_mix() -> None:
    buffer = make_buffer(n_steps=2, gamma=0.5, n_envs=2)
    for number in range(2):
        here = np.stack([prompt(number), prompt(100 + number)])
        rewards = np.array([1.0, 10.0], dtype=np.float32)
        buffer.add(here, here + 1, np.array([3, 4]), rewards, np.array([False, False]), [{}, {}])
    assert rows(buffer) == [(0, 3, 1.5, 2, 0.25), (100, 4, 15.0, 102, 0.25)]


def test_a_whole_episode_is_taken_as_step_by_step() -> None:
    for end in ("terminated", "truncated"):
        slow, fast = (make_buffer(n_steps=3, gamma=0.9) for _ in range(2))
        rewards = [0.5, -1.0, 2.0, 0.0, 3.0]
        for number, reward in enumerate(rewards):
            add(slow, number, reward, end=end if number == 4 else "")
        observations = np.stack([prompt(number) for number in range(6)])
        fast.add_episode(observations, [0, 1, 2, 3, 4], rewards, terminated=end == "terminated")
        assert rows(slow) == rows(fast)


def test_the_oldest_go_but_what_is_kept_stays() -> None:
    buffer = make_buffer(capacity=5, n_steps=1)
    observations = np.stack([prompt(number) for number in (50, 51, 52)])
    buffer.keep_episode(observations, [1, 2], [0.0, 1.0], terminated=True)
    for number in range(4):
        add(buffer, number, 0.0)
    assert [row[0] for row in rows(buffer)] == [50, 51, 3, 1, 2]
    assert buffer.at(np.arange(5)).demonstrated.flatten().tolist() == [1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="before the first step"):
        buffer.keep_episode(observations, [1, 2], [0.0, 1.0], terminated=True)
    with pytest.raises(ValueError, match="raise buffer_size"):
        make_buffer(capacity=2).keep_episode(observations, [1, 2], [0.0, 1.0], terminated=True)


def test_without_priorities_all_are_drawn_evenly_and_weigh_the_same() -> None:
    buffer = make_buffer(capacity=4)
    for number in range(4):
        add(buffer, number, 0.0)
    buffer.update_priorities(np.arange(4), np.array([9.0, 0.0, 0.0, 0.0]))
    batch = buffer.sample(40_000, importance_exponent=1.0)
    np.testing.assert_allclose(np.bincount(batch.indices) / 40_000, [0.25] * 4, atol=0.01)
    assert (batch.weights == 1).all()
    assert batch.observations.shape == (40_000, 2)
    assert batch.actions.shape == batch.rewards.shape == batch.discounts.shape == (40_000, 1)


def test_priorities_are_the_errors_to_the_power_of_alpha_and_weights_make_up_for_them() -> None:
    buffer = make_buffer(capacity=4, priority_exponent=0.5)
    for number in range(4):
        add(buffer, number, 0.0)
    errors = np.array([1.0, -4.0, 9.0, 16.0]) - PRIORITY_EPSILON * np.array([1, -1, 1, 1])
    buffer.update_priorities(np.arange(4), errors)
    assert buffer.priorities is not None
    np.testing.assert_allclose(buffer.priorities[:], [1, 2, 3, 4])
    batch = buffer.sample(10_000, importance_exponent=0.5)
    # Stratified: as often as they should be, but for one at each end of a share.
    np.testing.assert_allclose(np.bincount(batch.indices), [1000, 2000, 3000, 4000], atol=1.01)
    # (N * P) ** -0.5 over the greatest, that of P = 0.1.
    expected = (np.array([0.1, 0.2, 0.3, 0.4]) / 0.1) ** -0.5
    np.testing.assert_allclose(batch.weights.numpy()[:, 0], expected[batch.indices], rtol=1e-6)
    # With beta = 1 the weighted mean over draws is the mean over all, up to a factor.
    batch = buffer.sample(10_000, importance_exponent=1.0)
    weighed = np.bincount(batch.indices, weights=batch.weights.numpy()[:, 0])
    np.testing.assert_allclose(weighed / weighed.sum(), [0.25] * 4, atol=1e-3)
    assert (buffer.sample(10, importance_exponent=0.0).weights == 1).all()


def test_new_transitions_have_the_highest_priority_so_far() -> None:
    buffer = make_buffer(capacity=3, priority_exponent=1.0, n_steps=2)
    for number in range(3):
        add(buffer, number, 0.0)
    buffer.update_priorities(np.array([0, 1]), np.array([5.0, 0.1]))
    buffer.update_priorities(np.array([0]), np.array([0.2]))
    add(buffer, 3, 0.0, end="terminated")  # completes two transitions; the second takes the place of the oldest
    assert buffer.priorities is not None
    top = 5.0 + PRIORITY_EPSILON
    np.testing.assert_allclose(buffer.priorities[:], [top, 0.1 + PRIORITY_EPSILON, top])


def test_demonstrations_have_a_bonus() -> None:
    buffer = make_buffer(priority_exponent=1.0, demonstration_bonus=2.0)
    buffer.keep_episode(np.stack([prompt(50), prompt(51)]), [1], [1.0], terminated=True)
    add(buffer, 0, 0.0)
    buffer.update_priorities(np.arange(2), np.array([1.0, 1.0]))
    assert buffer.priorities is not None
    np.testing.assert_allclose(buffer.priorities[:2], [3.0 + PRIORITY_EPSILON, 1.0 + PRIORITY_EPSILON])


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
def test_a_buffer_that_comes_back_goes_on_exactly(priority_exponent: float, tmp_path: Path) -> None:
    options: dict[str, Any] = {"capacity": 6, "n_steps": 3, "priority_exponent": priority_exponent}
    buffer, other = make_buffer(**options), make_buffer(**options, seed=99)
    buffer.keep_episode(np.stack([prompt(50), prompt(51)]), [1], [1.0], terminated=True)
    for number in range(10):
        add(buffer, number, float(number))
        buffer.update_priorities(buffer.sample(4).indices, np.arange(4.0))
    buffer.write(tmp_path)
    other.read(tmp_path)
    for number in range(10, 20):
        for each in (buffer, other):
            add(each, number, float(number), end="terminated" if number == 13 else "")
        first, second = buffer.sample(4, 0.5), other.sample(4, 0.5)
        for ours, theirs in zip(first, second, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for each in (buffer, other):
            each.update_priorities(first.indices, np.arange(4.0))
    assert rows(buffer) == rows(other)
    with pytest.raises(ValueError, match="holds 6 transitions"):
        make_buffer(capacity=5).read(tmp_path)


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="buffer_size is 0"):
        make_buffer(capacity=0)
    with pytest.raises(ValueError, match="n_steps is 0"):
        make_buffer(n_steps=0)
    with pytest.raises(ValueError, match="priority_exponent is -1"):
        make_buffer(priority_exponent=-1)
    with pytest.raises(ValueError, match="is empty"):
        make_buffer().sample(3)
