"""A training in which 1 % of the steps raise and 0.1 % hang ends with the right counts, and learns from the rest."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from heed.agents import DQN, GRPO, PPO, QLearning
from heed.agents.acting import Policy
from heed.agents.replay.buffer import ReplayBuffer
from heed.agents.rollouts.groups import EpisodeGroups
from heed.agents.rollouts.lost_steps import EPISODE_LOST, RolloutWithoutLostSteps
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv, episode_seed
from heed.evaluation.playing import batch as playing
from tests.faulty import Broken, Injected, planned

pytestmark = pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")

STEPS, N_ENVS, LIMIT = 20_000, 100, 0.25
RAISED = "ZeroDivisionError: injected"
HUNG = f"HangError: step did not return within {LIMIT} s"


class Told(BaseCallback):
    """Notes what the learner is told of each episode's end."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: Counter[str] = Counter()
        self.ended: list[float] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if EPISODE_LOST in info:
                self.lost[info[EPISODE_LOST]] += 1
            if "episode" in info:
                self.ended.append(info["episode"]["l"])
        return True


def expected(steps: int) -> tuple[dict[str, int], list[int], list[tuple[int, int, int]]]:
    """Work out, from the seeds alone, what is lost, the lengths of the episodes that end, and where what is lost."""
    reasons: Counter[str] = Counter()
    lengths, records = [], []
    for env in range(N_ENVS):
        taken, episode = 0, 0
        while True:
            seed = episode_seed(0, env, episode)
            length, breaks_in, kind = planned(seed)
            taken += breaks_in or length
            if taken > steps:
                break
            episode += 1
            if breaks_in:
                reasons[RAISED if kind == "raise" else HUNG] += 1
                records.append((env, seed, breaks_in))
            else:
                lengths.append(length)
    return dict(reasons), sorted(lengths), sorted(records)


@pytest.mark.parametrize(("processes", "steps"), [(1, STEPS), (2, STEPS // 4)])
def test_a_training_with_injected_faults_ends_with_the_right_counts(processes: int, steps: int) -> None:
    options: Any = {"seed": 0, "step_timeout": LIMIT}
    factories = [Injected] * N_ENVS
    env: LanguageVecEnv | ProcessLanguageVecEnv
    if processes == 1:
        env = LanguageVecEnv(factories, **options)
    else:
        env = ProcessLanguageVecEnv(factories, processes=processes, **options)
    try:
        agent = PPO(
            env=env,
            seed=0,
            n_steps=10,
            batch_size=500,
            n_epochs=6,
            learning_rate=1e-2,
            policy_kwargs={"head": "linear", "train_layers": 0, "max_prompt_tokens": 48},
            device="cpu",
        )
        told = Told()
        agent.learn(steps, callback=told)
        reasons, lengths, records = expected(steps // N_ENVS)
        assert agent.num_timesteps == steps
        assert env.lost_summary() == reasons
        assert told.lost == reasons
        assert sorted(told.ended) == lengths
        lost = env.lost_episodes
        assert sorted((one.env, one.seed, one.step) for one in lost) == records
        assert 0.0075 * steps < reasons[RAISED] < 0.0125 * steps  # 1 %
        assert 0.0005 * steps < reasons[HUNG] < 0.0015 * steps  # 0.1 %
        assert agent.logger.name_to_value["rollout/lost_episodes"] in (0, len(records))
        if steps == STEPS:  # it has learned what the instruction asks for
            assert agent.ep_success_buffer is not None
            assert np.mean(agent.ep_success_buffer) > 0.8
    finally:
        env.close()


# -- what is learned from --------------------------------------------------------------------------------------------


def test_a_rollout_with_a_lost_step_is_the_one_that_ends_before_it() -> None:
    space, actions = spaces.Box(0, 9, (1,), np.int64), spaces.Discrete(2)
    values, gamma, gae = [0.5, 0.7, -0.3, 0.2], 0.9, 0.8

    def filled(rewards: list[float], lost_at: int | None, dones: int) -> RolloutWithoutLostSteps:
        buffer = RolloutWithoutLostSteps(4, space, actions, gamma=gamma, gae_lambda=gae)
        for step, (reward, value) in enumerate(zip(rewards, values, strict=True)):
            if step == lost_at:
                buffer.lose([{EPISODE_LOST: "gone"}])
            start = np.array([step == 0 or step - 1 == dones])
            step_taken = np.array([[step]]), np.array([[0]]), np.array([reward])
            buffer.add(*step_taken, start, torch.tensor([value]), torch.tensor([0.0]))
        buffer.compute_returns_and_advantage(torch.tensor([0.4]), np.array([False]))
        return buffer

    # SB3 adds gamma * V(last observation) to the reward of a lost step, as at any time limit: it has no effect.
    buffer = filled([1.0, 2.0, gamma * values[2], 3.0], lost_at=2, dones=2)
    assert buffer.advantages[2, 0] == 0
    # By hand: step 1 bootstraps from the value where step 2 would have been taken.
    second = 2.0 + gamma * values[2] - values[1]
    first = 1.0 + gamma * values[1] - values[0] + gamma * gae * second
    last = 3.0 + gamma * 0.4 - values[3]
    np.testing.assert_allclose(buffer.advantages[:, 0], [first, second, 0, last], rtol=1e-6)
    samples = list(buffer.get(2))
    assert sorted(int(prompt) for sample in samples for prompt in sample.observations.flatten()) == [0, 1, 3]
    assert [len(sample.advantages) for sample in samples] == [2, 1]
    # Without losses it is SB3's, to the draws.
    whole = filled([1.0, 2.0, 0.5, 3.0], lost_at=None, dones=2)
    np.random.seed(0)  # noqa: NPY002 - which SB3 draws from
    order = [int(prompt) for sample in whole.get(2) for prompt in sample.observations.flatten()]
    np.random.seed(0)  # noqa: NPY002
    assert order == np.random.permutation(4).tolist()  # noqa: NPY002
    # As if it were an outcome, the lost step would have had an advantage, and the steps before it another one.
    assert not np.isclose(filled([1.0, 2.0, gamma * values[2], 3.0], None, 2).advantages[1, 0], second)


def test_a_replay_buffer_ends_the_episode_before_the_lost_step() -> None:
    buffer = ReplayBuffer(16, spaces.Box(0, 99, (1,), np.int64), n_envs=2, n_steps=3, gamma=0.5)
    for step in range(5):
        lost = step == 3
        infos: list[dict[str, Any]] = [{EPISODE_LOST: "gone", "TimeLimit.truncated": True} if lost else {}, {}]
        if lost:
            infos[1] = {EPISODE_LOST: "gone", "observation_unknown": True}
        observations = np.array([[10 + step], [50 + step]])
        following = observations if lost else observations + 1
        rewards, dones = np.array([1.0, 1.0]), np.array([lost, lost])
        buffer.add(observations, following, np.array([step, step]), rewards, dones, infos)
    columns = (buffer.observations[:, 0], buffer.actions, buffer.rewards)
    kept = sorted(zip(*(column[: buffer.size].tolist() for column in columns), strict=True))
    # Steps 0 to 2 of both environments; of the second, nobody knows where the last two of these led.
    assert kept == [(10, 0, 1.75), (11, 1, 1.5), (12, 2, 1.0), (50, 0, 1.75)]
    assert sorted(buffer.next_observations[: buffer.size].flatten().tolist()) == [13, 13, 13, 53]
    assert sorted(buffer.discounts[: buffer.size].tolist()) == [0.125, 0.125, 0.25, 0.5]
    assert [len(stream.waiting) for stream in buffer._streams] == [1, 1]  # the next episode's first step


def groups() -> EpisodeGroups:
    options: Any = {"gamma": 1.0, "divide_by_deviation": False, "divide_by_length": False, "device": "cpu"}
    return EpisodeGroups(spaces.Box(0, 99, (1,), np.int64), spaces.Discrete(2), group_size=3, n_envs=3, **options)


def end(buffer: EpisodeGroups, group: int, *rewards: float | None, still: Sequence[int] = ()) -> None:
    """One step in which three episodes of a group end, None being one that was lost; of some others still run."""
    infos = [{"episode_group": (0, group), **({EPISODE_LOST: ""} if one is None else {})} for one in rewards]
    prompts, actions = np.zeros((3, 1), dtype=np.int64), np.zeros((3, 1), dtype=np.int64)
    filled = np.array([reward or 0.0 for reward in rewards])
    buffer.add(prompts, actions, np.zeros(3), filled, np.ones(3, dtype=bool), infos, [(0, one) for one in still])


def test_a_group_with_a_lost_episode_compares_the_others_and_holds_up_nothing() -> None:
    buffer = groups()
    end(buffer, 0, 1.0, None, 3.0, still=[0, 1])
    assert buffer.complete == []  # another one of this group runs
    end(buffer, 1, None, None, 5.0, still=[2])
    saved = buffer.state()
    (group,) = buffer.complete
    assert [episode.rewards for episode in group] == [[1.0], [3.0]]
    assert buffer.samples().advantages.tolist() == [-1.0, 1.0]  # not held against a return of 0
    buffer.reset()
    end(buffer, 2, 1.0, 2.0, 6.0, still=[3])
    assert [len(group) for group in buffer.complete] == [3]  # and none of the one that alone remained
    again = groups()
    again.set_state(saved)
    assert [len(group) for group in again.complete] == [2]


@pytest.mark.parametrize("algorithm", [DQN, GRPO, QLearning])
def test_other_agents_learn_beside_losses(algorithm: Any, tmp_path: Path) -> None:
    factory = functools.partial(Injected, 0.1, 0.0)
    policy: dict[str, Any] = {"policy_kwargs": {"head": "linear", "max_prompt_tokens": 48, "train_layers": 0}}
    options: dict[Any, dict[str, Any]] = {
        DQN: {"learning_starts": 50, "gradient_steps": 1, "n_steps": 3, **policy},
        GRPO: {"group_size": 4, "n_steps": 20, **policy},
        QLearning: {},
    }
    env = LanguageVecEnv([factory] * 4, seed=0, group_size=4 if algorithm is GRPO else 1)
    agent = algorithm(env=env, seed=0, **options[algorithm])
    agent.learn(200)
    assert env.lost_count > 10
    agent.save(tmp_path / "agent")
    lost = env.lost_count
    agent.learn(100, reset_num_timesteps=False)
    other = LanguageVecEnv([factory] * 4, seed=1, group_size=4 if algorithm is GRPO else 1)
    loaded = algorithm.load(tmp_path / "agent", env=other)
    assert other.lost_count == lost < env.lost_count
    loaded.learn(100, reset_num_timesteps=False)
    assert other.get_state() == env.get_state()


def test_an_environment_that_hangs_does_not_hang_an_evaluation() -> None:
    def choose(words: Any, generators: Any) -> Any:
        return np.zeros(len(words["instruction"]), dtype=int)

    cell = playing.Cell(
        env="",
        axis=playing._Made(lambda: Broken("sleep", frozenset({3}))),
        policy=Policy(name="zero", choose=choose),
    )
    played = playing.play([cell], [1, 2, 3, 4], timeout=0.2)
    assert [episode.seed for episode in played.episodes] == [1, 2, 4]
    (missing,) = played.missing
    assert (missing.episodes, missing.reason) == (1, "Its episodes raised HangError: step did not return within 0.2 s.")
