"""Q-learning with a table: its update by hand, and the optimum that value iteration finds; DQN agrees with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule

from heed.agents import DQN, CheckpointError, QLearning, load
from heed.agents.exploration import UCB, Boltzmann, EpsilonGreedy, Exploration, Schedule, Thompson
from heed.envs import make
from heed.envs.words.verbalize import VerbalizedEnv, verbalizer_for
from heed.scripts import train as train_module
from heed.training.run_folder import RunFolder
from tests.buttons import make_buttons
from tests.one_hot import OneHotPolicy

GAMMA = 0.95
LAKE: tuple[str, dict[str, Any]] = ("FrozenLake-v1", {"is_slippery": False})
TAXI: tuple[str, dict[str, Any]] = ("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", {})
CLIFF: tuple[str, dict[str, Any]] = ("CliffWalking-v1", {})


def value_iteration(model: Any, gamma: float) -> npt.NDArray[np.float64]:
    """Return the optimal values, (S, A), of a toy-text environment's own table of transitions."""
    n_states, n_actions = len(model), len(model[0])
    values = np.zeros((n_states, n_actions))
    for _ in range(10_000):
        best = values.max(axis=1)
        new = np.array(
            [
                [
                    sum(p * (r + gamma * best[s] * (not over)) for p, s, r, over in model[state][a])
                    for a in range(n_actions)
                ]
                for state in range(n_states)
            ]
        )
        if np.abs(new - values).max() < 1e-10:
            return new
        values = new
    raise AssertionError("value iteration does not converge")


class Task:
    """An environment with its optimum, and the words for its states."""

    def __init__(self, env_id: str, options: dict[str, Any]):
        env = gymnasium.make(env_id, disable_env_checker=True, **options)
        self.words = VerbalizedEnv(verbalizer_for(env, env_id))._words
        self.model: Any = env.unwrapped.P  # type: ignore[attr-defined]
        self.optimum = value_iteration(self.model, GAMMA)
        self.start = np.flatnonzero(env.unwrapped.initial_state_distrib)  # type: ignore[attr-defined]

    def words_of(self, states: Any) -> dict[str, list[str]]:
        words = [self.words(state) for state in states]
        return {key: [entry[key] for entry in words] for key in ("instruction", "observation")}

    def value_of(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return what following `actions`, (S,), is worth in every state."""
        chosen = {state: {0: self.model[state][int(action)]} for state, action in enumerate(actions)}
        return value_iteration(chosen, GAMMA)[:, 0]


def q_learning(env_id: str, options: dict[str, Any], steps: int, **arguments: Any) -> QLearning:
    agent = QLearning(make(env_id, n_envs=1, seed=0, **options), **{"gamma": GAMMA, "seed": 0, **arguments})
    return agent.learn(steps)


def test_updates_are_the_textbooks() -> None:
    agent = QLearning(make_buttons(1), learning_rate=0.5, gamma=0.5, seed=0)
    row, following = agent.table.row(("i", "here")), ("i", "there")
    next_row = agent.table.row(following)
    agent.table.values[next_row] = [1.0, 4.0, 2.0]
    agent._update(row, 1, 3.0, following, 0.5, slice(None))
    # From 0 half-way to 3 + 0.5 * 4 = 5.
    assert agent.table.values[row].tolist() == [0.0, 2.5, 0.0]
    agent._update(row, 1, 3.0, None, 0.5, slice(None))
    # From 2.5 half-way to 3: the episode is over.
    assert agent.table.values[row].tolist() == [0.0, 2.75, 0.0]


def test_a_time_limit_is_bootstrapped_through_and_an_end_is_not() -> None:
    """On a lake with a limit of one step no episode reaches an end of its own: values fall by the discount only."""
    env = make("FrozenLake-v1", n_envs=1, seed=0, is_slippery=False, max_episode_steps=1)
    agent = QLearning(env, learning_rate=1.0, gamma=0.5, initial_value=1.0, seed=0)
    agent.learn(4)
    values = agent.q_values(Task(*LAKE).words_of([0]))[0]
    assert 0.0 < values.min() <= 0.5  # at a true end it would be the reward, 0


@pytest.mark.parametrize(
    ("task", "steps"), [(LAKE, 6_000), pytest.param(TAXI, 75_000, marks=pytest.mark.exhaustive), (CLIFF, 12_000)]
)
def test_the_table_is_the_optimum_of_value_iteration(task: tuple[str, dict[str, Any]], steps: int) -> None:
    """Where nothing is random a learning rate of 1 is exact, and optimistic values see to it that all is tried."""
    optimistic = 0.0 if task is not LAKE else 1.0
    explore = EpsilonGreedy(schedule=Schedule.constant(0.3))
    agent = q_learning(*task, steps, learning_rate=1.0, initial_value=optimistic, exploration=explore)
    truth = Task(*task)
    words = truth.words_of(range(len(truth.model)))
    greedy = agent.q_values(words).argmax(axis=1)
    # Along the way from a start, the greedy actions are worth as much as the best, and the table knows it. Taxi has 300
    # starts, of which chance leaves out a few.
    worth, best = truth.value_of(greedy)[truth.start], truth.optimum.max(axis=1)[truth.start]
    assert np.isclose(worth, best, atol=1e-6).mean() >= (0.97 if task is TAXI else 1.0)
    assert np.isclose(agent.q_values(words).max(axis=1)[truth.start], best, atol=1e-3).mean() >= 0.97


def test_on_slippery_ice_a_falling_learning_rate_comes_near_the_optimum() -> None:
    explore = EpsilonGreedy(schedule=Schedule.constant(1.0))
    rate = LinearSchedule(0.2, 0.002, 1.0)
    agent = q_learning("FrozenLake-v1", {}, 45_000, learning_rate=rate, exploration=explore)
    truth = Task("FrozenLake-v1", {})
    words = truth.words_of(range(16))
    np.testing.assert_allclose(agent.q_values(words)[truth.start], truth.optimum[truth.start], atol=0.03)
    best = truth.optimum.max(axis=1)
    assert truth.value_of(agent.q_values(words).argmax(axis=1))[0] > 0.95 * best[0]


def one_hot_dqn(task: tuple[str, dict[str, Any]], first: float, **arguments: Any) -> DQN:
    env = make(task[0], n_envs=8, seed=0, **task[1])
    given: dict[str, Any] = {"gamma": GAMMA, "n_steps": 1, "max_grad_norm": 1e9, "seed": 0, **arguments}
    return DQN(OneHotPolicy, env, policy_kwargs={"first": first, "max_prompt_tokens": 96}, **given)


def deep_values(agent: DQN, words: Any) -> npt.NDArray[Any]:
    with torch.no_grad():
        return np.asarray(agent.q_net(agent.policy.obs_to_tensor(words)[0]).numpy())


def test_dqn_agrees_with_the_table() -> None:
    """With one weight for each state and action, DQN is Q-learning with a replay buffer."""
    agent = one_hot_dqn(
        LAKE,
        1.0,
        learning_rate=LinearSchedule(0.1, 0.005, 1.0),
        learning_starts=500,
        gradient_steps=4,
        target_update_interval=80,
        exploration=EpsilonGreedy(schedule=Schedule(start=1.0, end=0.1, fraction=0.2)),
    )
    agent.learn(2_500)
    explore = EpsilonGreedy(schedule=Schedule.constant(0.3))
    table = q_learning(*LAKE, 6_000, learning_rate=1.0, initial_value=1.0, exploration=explore)
    truth = Task(*LAKE)
    words = truth.words_of(range(len(truth.model)))
    deep, exact = deep_values(agent, words), table.q_values(words)
    ours, theirs = (truth.value_of(values.argmax(axis=1))[truth.start] for values in (deep, exact))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(deep.max(axis=1)[truth.start], exact.max(axis=1)[truth.start], rtol=0.05)


@pytest.mark.exhaustive
def test_dqn_agrees_with_the_table_on_all_of_taxi() -> None:
    """Both learn from each of Taxi's transitions; to meet them all by driving would take DQN minutes."""
    truth = Task(*TAXI)
    agent = one_hot_dqn(TAXI, 0.0, learning_rate=LinearSchedule(0.5, 0.01, 1.0))
    agent.set_logger(Logger(folder=None, output_formats=[]))
    tabular = QLearning(make(TAXI[0], seed=0), gamma=GAMMA, seed=0)
    words: Any = truth.words_of(range(500))
    prompts = agent.policy.obs_to_tensor(words)[0].numpy()  # type: ignore[union-attr]
    states = list(zip(words["instruction"], words["observation"], strict=True))
    # From where the passenger stands at the destination nothing goes on.
    delivered = {row[5][0][1] for row in truth.model.values() if row[5][0][3]}
    moves = [(s, a, *truth.model[s][a][0][1:]) for s in truth.model if s not in delivered for a in range(6)]

    for _ in range(20):
        for state, action, following, reward, over in moves:
            row = tabular.table.row(states[state])
            tabular._update(row, action, float(reward), None if over else states[following], 1.0, slice(None))
    exact = tabular.q_values(words)
    np.testing.assert_allclose(exact.max(axis=1)[truth.start], truth.optimum.max(axis=1)[truth.start], atol=1e-6)

    buffer = agent.replay_buffer
    assert buffer is not None
    for part in np.array_split(np.array(moves, dtype=np.int64), len(moves) // 8):
        state, action, following, reward, over = part[:8].T
        buffer.add(prompts[state], prompts[following], action, reward, over, [{}] * 8)
    for update in range(30):
        agent._current_progress_remaining = 1 - update / 30
        agent.train(gradient_steps=40, batch_size=512)
        agent.q_net_target.load_state_dict(agent.q_net.state_dict())
    deep = deep_values(agent, words)
    np.testing.assert_allclose(deep.max(axis=1)[truth.start], exact.max(axis=1)[truth.start], atol=0.5)
    worth = truth.value_of(deep.argmax(axis=1))[truth.start]
    np.testing.assert_allclose(worth, truth.optimum.max(axis=1)[truth.start], atol=1e-6)


STRATEGIES: list[Exploration] = [EpsilonGreedy(), Boltzmann(), UCB(), Thompson(heads=3, mask_probability=0.5)]


def test_another_strategy_may_take_over(tmp_path: Path) -> None:
    agent = QLearning(make("FrozenLake-v1", n_envs=2, seed=0), seed=0)
    agent.learn(200)
    agent.save(tmp_path / "agent")
    other = QLearning.load(tmp_path / "agent", env=make("FrozenLake-v1", n_envs=2, seed=0), exploration=Thompson())
    np.testing.assert_array_equal(other.table.values, agent.table.values)
    other.learn(100, reset_num_timesteps=False)
    assert other.table.heads.shape == (10, len(other.table.states), 4)
    with pytest.raises(CheckpointError, match="class QLearning, not DQN"):
        DQN.load(tmp_path / "agent")


def test_predictions_take_words_one_or_many_and_states_never_seen() -> None:
    agent = QLearning(make_buttons(4), learning_rate=1.0, seed=0)
    agent.learn(200)
    one = {"instruction": "press the blue button", "observation": "three buttons"}
    assert int(agent.predict(one, deterministic=True)[0]) == 2
    many = {"instruction": ["press the green button", "never said"], "observation": ["three buttons"] * 2}
    assert agent.predict(many, deterministic=True)[0].tolist() == [1, 0]
    assert agent.predict(many)[0].shape == (2,)
    assert agent.action_probabilities(many)[1].tolist() == pytest.approx([1 / 3] * 3)
    states = len(agent.table.states)
    assert len(agent.table.states) == states == 3  # to ask is not to meet


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"env": gymnasium.make("FrozenLake-v1")}, TypeError, "is not a VecEnv"),
        ({"learning_rate": 1.5}, ValueError, "The learning rate of a table is 1.5"),
        ({"gamma": 1.5}, ValueError, "gamma is 1.5"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        QLearning(**{"env": make_buttons(1), **arguments})
    with pytest.raises(ValueError, match="needs Discrete actions"):
        QLearning(make("Pendulum-v1"))


def test_heed_train_trains_resumes_and_evaluates_a_table(tmp_path: Path) -> None:
    command = ["--env", "FrozenLake-v1", "--agent", "q-learning", "--exploration", "boltzmann", "--save-every", "200"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train_module.main([*command, "--steps", "800", "--eval-episodes", "3", "--run-dir", str(whole)])
    assert json.loads((whole / "evaluation.json").read_text())["trained_steps"] == 800
    assert (whole / "report.html").is_file()
    config = json.loads((whole / "config.json").read_text())
    assert (config["n_envs"], config["max_prompt_tokens"]) == (1, None)
    # Temperatures follow the length of the training, so the same run is stopped, not a shorter one begun.
    train_module.main([*command, "--steps", "800", "--eval-episodes", "0", "--run-dir", str(parted)])
    shutil.rmtree(RunFolder(parted).latest_checkpoint())
    train_module.main(["--run-dir", str(parted), "--resume"])
    first, second = (load(RunFolder(folder).latest_checkpoint()) for folder in (whole, parted))
    assert isinstance(first, QLearning)
    assert isinstance(second, QLearning)
    np.testing.assert_array_equal(first.table.values, second.table.values)
    assert RunFolder(whole).read_curve() == RunFolder(parted).read_curve()
