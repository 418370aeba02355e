"""Groups of episodes: advantages worked out by hand, and no step lost, doubled or favoured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from heed.agents.rollouts.groups import EpisodeGroups

PROMPTS = spaces.Box(-1, 99, shape=(3,), dtype=np.int16)


def groups_of(group_size: int = 2, n_envs: int = 2, **options: Any) -> EpisodeGroups:
    settings = {"gamma": 0.5, "divide_by_deviation": True, "divide_by_length": False, **options}
    return EpisodeGroups(PROMPTS, spaces.Discrete(4), group_size=group_size, device="cpu", n_envs=n_envs, **settings)


def play(
    groups: EpisodeGroups,
    *steps: Sequence[tuple[float, tuple[int, int] | None]],
    running: Collection[tuple[int, int]] = (),
) -> None:
    """Add steps: of each environment its reward, and the group of its episode where that ends with the step.

    Behind the last of them, episodes of the groups `running` go on.
    Prompt, action and log-probability tell the step: the k-th of environment n has the prompt (n, k, -1).
    """
    begin = sum(len(episode.rewards) for episode in groups._running)
    for number, step in enumerate(steps):
        groups.add(
            np.array([(env, begin + number, -1) for env in range(len(step))], dtype=np.int16),
            np.array([[number % 4] for _ in step]),
            np.array([-0.5 - number for _ in step]),
            np.array([reward for reward, _ in step]),
            np.array([group is not None for _, group in step]),
            [{} if group is None else {"episode_group": group} for _, group in step],
            running,
        )


def test_advantages_are_worked_out_by_hand() -> None:
    returns = np.array([1.0, 0.0, 0.5, 0.5])  # mean 1/2, variance 1/8
    expected = [np.sqrt(2), -np.sqrt(2), 0, 0]
    np.testing.assert_allclose(groups_of().advantages_of(returns), expected, atol=1e-6)
    bare = groups_of(divide_by_deviation=False).advantages_of(returns)
    np.testing.assert_allclose(bare, [0.5, -0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(groups_of().advantages_of(np.full(4, 0.3)), 0, atol=1e-6)


def test_every_step_of_an_episode_has_its_advantage() -> None:
    groups = groups_of()
    play(groups, [(0.0, None), (1.0, (0, 0))], [(0.0, None), (0.0, None)], [(1.0, (0, 0)), (0.0, None)])
    samples = groups.samples()
    # Environment 1 was worth 1 after one step, environment 0 worth 0.5 * 0.5 after three; mean 5/8, deviation 3/8.
    assert samples.observations[:, :2].tolist() == [[1, 0], [0, 0], [0, 1], [0, 2]]
    torch.testing.assert_close(samples.advantages, torch.tensor([1.0, -1, -1, -1]))
    torch.testing.assert_close(samples.returns, torch.tensor([1.0, 0.25, 0.25, 0.25]))
    assert samples.actions.tolist() == [[0], [0], [1], [2]]
    torch.testing.assert_close(samples.old_log_prob, torch.tensor([-0.5, -0.5, -1.5, -2.5]))


def test_by_length_each_episode_weighs_the_same() -> None:
    groups = groups_of(divide_by_length=True)
    play(groups, [(0.0, None), (1.0, (0, 0))], [(0.0, None), (0.0, None)], [(1.0, (0, 0)), (0.0, None)])
    advantages = groups.samples().advantages
    # The mean length is 2: 2 / 1 for the one step, 2 / 3 for each of three.
    torch.testing.assert_close(advantages, torch.tensor([2.0, -2 / 3, -2 / 3, -2 / 3]))


def test_a_group_waits_for_its_last_episode_and_nothing_is_lost() -> None:
    groups = groups_of(n_envs=2)
    # Environment 0 ends two short episodes, of this group and the next, while the other's goes on.
    play(groups, [(1.0, (0, 0)), (0.0, None)], [(1.0, (0, 1)), (0.0, None)], running=[(0, 1), (0, 0)])
    assert groups.complete == []
    groups.reset()  # a new rollout
    play(groups, [(0.0, None), (0.0, (0, 0))], running=[(0, 1), (0, 2)])
    assert [[len(episode.rewards) for episode in group] for group in groups.complete] == [[1, 3]]
    assert len(groups.samples().advantages) == 4
    groups.reset()
    assert groups.complete == []
    play(groups, [(0.0, None), (0.0, (0, 1))])
    assert [[len(episode.rewards) for episode in group] for group in groups.complete] == [[1, 1]]


def test_its_state_is_all_of_it() -> None:
    groups = groups_of(n_envs=4)
    quiet: tuple[float, None] = (0.0, None)
    play(groups, [(1.0, (0, 0)), quiet, (0.25, (1, 0)), (0.5, (1, 0))], [quiet, quiet, quiet, quiet])
    again = groups_of(n_envs=4)
    again.set_state({name: tensor.clone() for name, tensor in groups.state().items()})
    for one in (groups, again):
        play(one, [quiet, (1.0, (0, 0)), quiet, quiet])
    for ours, theirs in zip(groups.samples(), again.samples(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert groups.samples().observations.dtype == torch.int16
    assert [len(one.rewards) for one in groups._running] == [len(one.rewards) for one in again._running]
    empty = groups_of()
    empty.set_state(groups_of().state())
    assert empty.complete == []


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(None, [10]), (100, [10]), (4, [5, 5]), (3, [4, 3, 3]), (1, [1] * 10)]
)
def test_minibatches_are_of_like_size_and_hold_every_step_once(batch_size: int | None, sizes: list[int]) -> None:
    groups = groups_of()
    quiet: tuple[float, None] = (0.0, None)
    play(groups, *[[quiet, quiet]] * 4, [(1.0, (0, 0)), (0.0, (0, 0))])
    minibatches = list(groups.get(batch_size))
    assert [len(minibatch.advantages) for minibatch in minibatches] == sizes
    steps = {tuple(prompt.tolist()) for minibatch in minibatches for prompt in minibatch.observations}
    assert len(steps) == 10
