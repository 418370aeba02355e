"""Whatever interrupts a training: no agent learns from a step that leads from one episode into another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, QLearning
from heed.agents.exploration import Thompson
from heed.envs import LanguageVecEnv, language_space
from heed.policies.prompts.prompt import PromptVecEnv

N_STEPS, LENGTH = 3, 7


class Counted(gymnasium.Env[Any, Any]):
    """An episode of seven steps, which says in every observation which episode it is, and how many steps are done.

    The k-th step brings the reward k; who is there after the second one has done what "rest" asks for.
    """

    action_texts = ("walk", "rest")
    raises_at = 0
    """The step, of all that this environment takes, that raises; 0 for none."""

    def __init__(self) -> None:
        numbers = spaces.Box(0, 2**24, (2,), np.float32)
        self.observation_space = language_space(numbers=numbers)
        self.action_space = spaces.Discrete(2)
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._step = int(self.np_random.integers(2**24)), 0
        return self._perceive(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step, self._taken = self._step + 1, self._taken + 1
        if self._taken == self.raises_at:
            raise KeyboardInterrupt
        return self._perceive(), float(self._step), self._step == LENGTH, False, {"is_success": False}

    def fulfilled_instructions(self) -> dict[str, float]:
        return {"rest": 9.0} if self._step == 2 else {}

    def _perceive(self) -> dict[str, Any]:
        place = np.array([self._episode, self._step], dtype=np.float32)
        return {"instruction": "walk", "observation": f"{self._episode} {self._step}", "numbers": place}


class Interrupted(Counted):
    raises_at = 12


class Forgetful(LanguageVecEnv):
    """Cannot be brought back."""

    @property
    def set_state(self) -> Any:
        raise AttributeError("set_state")


class Stop(BaseCallback):
    """Ends a training, or breaks it off, in a step; in the meantime it may save the agent there."""

    def __init__(self, step: int, raises: bool = False, folder: Path | None = None):
        super().__init__()
        self.step, self.raises, self.folder = step, raises, folder

    def _on_step(self) -> bool:
        if self.n_calls != self.step:
            return True
        if self.folder is not None:
            self.model.save(self.folder)
        if self.raises:
            raise KeyboardInterrupt
        return False


def new_env(
    agent: type[Any], seed: int = 5, n_envs: int = 2, *, first: Any = Counted, kind: Any = LanguageVecEnv
) -> Any:
    return kind([first, *[Counted] * (n_envs - 1)], seed=seed, group_size=2 if agent is GRPO else 1)


def set_env(agent: Any, env: Any) -> Any:
    old = agent.get_env()
    agent.set_env(PromptVecEnv(env, old.encoder) if isinstance(old, PromptVecEnv) else env)
    return agent


def learn_again(agent: Any, folder: Path) -> Any:
    return agent.learn(10)


def with_other_envs(agent: Any, folder: Path) -> Any:
    return set_env(agent, new_env(type(agent), 6)).learn(10, reset_num_timesteps=False)


def load(agent: Any, folder: Path, **env: Any) -> Any:
    agent.save(folder)
    return type(agent).load(folder, env=new_env(type(agent), 6, **env)).learn(10, reset_num_timesteps=False)


def load_where_nothing_comes_back(agent: Any, folder: Path) -> Any:
    return load(agent, folder, kind=Forgetful)


def load_with_more_envs(agent: Any, folder: Path) -> Any:
    return load(agent, folder, n_envs=4)


def load_and_go_on(agent: Any, folder: Path) -> Any:
    return load(agent, folder)


def stop_and_go_on(agent: Any, folder: Path) -> Any:
    agent.learn(100, Stop(5), reset_num_timesteps=False)
    return agent.learn(10, reset_num_timesteps=False)


def save_in_a_step(agent: Any, folder: Path) -> Any:
    agent.learn(100, Stop(5, folder=folder), reset_num_timesteps=False)
    agent = type(agent).load(folder, env=new_env(type(agent), 6))
    return agent.learn(10, reset_num_timesteps=False)


def raise_in_a_callback(agent: Any, folder: Path) -> Any:
    with pytest.raises(KeyboardInterrupt):
        agent.learn(100, Stop(5, raises=True), reset_num_timesteps=False)
    return agent.learn(10, reset_num_timesteps=False)


def raise_in_an_environment(agent: Any, folder: Path) -> Any:
    set_env(agent, new_env(type(agent), 6, first=Interrupted))
    with pytest.raises(KeyboardInterrupt):
        agent.learn(100, reset_num_timesteps=False)
    return agent.learn(10, reset_num_timesteps=False)


def play_in_its_environments(agent: Any, folder: Path) -> Any:
    env = agent.get_env()
    env.reset()
    env.step(np.zeros(env.num_envs, dtype=int))
    return agent.learn(10, reset_num_timesteps=False)


WAYS: list[Callable[[Any, Path], Any]] = [
    learn_again,
    with_other_envs,
    load_where_nothing_comes_back,
    load_with_more_envs,
    load_and_go_on,
    stop_and_go_on,
    save_in_a_step,
    raise_in_a_callback,
    raise_in_an_environment,
    play_in_its_environments,
]
CUT = {learn_again, with_other_envs, load_where_nothing_comes_back, load_with_more_envs}
SOME = [learn_again, stop_and_go_on, raise_in_an_environment]
ONCE = {learn_again, with_other_envs, load_and_go_on, stop_and_go_on, raise_in_a_callback, play_in_its_environments}
"""Those in which no episode is begun a second time."""

POLICY: dict[str, Any] = {"policy_kwargs": {"head": "linear", "max_prompt_tokens": 32, "train_layers": 0}}
OPTIONS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 5, "batch_size": 10, "n_epochs": 1, "gamma": 1.0, **POLICY},
    A2C: {"n_steps": 5, **POLICY},
    REINFORCE: {"n_steps": 5, **POLICY},
    GRPO: {"n_steps": 10, "group_size": 2, **POLICY},
    DQN: {"learning_starts": 1000, "gamma": 1.0, "n_steps": N_STEPS, "buffer_size": 200, **POLICY},
    QLearning: {"exploration": Thompson(heads=50)},
}


def begun(kind: Any, **options: Any) -> Any:
    agent = kind(env=new_env(kind), seed=0, **{**OPTIONS[kind], **options})
    agent.learn(10)  # five steps of two environments, of groups ten; their episodes go on
    return agent


def places(agent: Any, rows: Any) -> list[tuple[int, int]]:
    """Return of which episode, and behind which of its steps, prompts are."""
    packed = agent._layout.split(torch.from_numpy(np.atleast_2d(rows))).packed["numbers"]
    numbers = packed.contiguous().view(torch.float32)
    return [(int(episode), int(step)) for episode, step in numbers.tolist()]


def shown(agent: Any) -> bool:
    """Whether the agent sees what its environments show."""
    words = agent.env.unwrapped.observations
    seen = agent._last_obs["numbers"] if isinstance(agent._last_obs, dict) else places(agent, agent._last_obs)
    return np.array_equal(np.array(seen), words["numbers"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"hindsight": 1, "priority_exponent": 0.5}], ids=["plain", "hindsight"])
def test_no_transition_leads_into_another_episode(way: Any, options: dict[str, Any], tmp_path: Path) -> None:
    agent = way(begun(DQN, **options), tmp_path / "agent")
    assert shown(agent)
    buffer = agent.replay_buffer
    rows = slice(buffer.size)
    before, after = places(agent, buffer.observations[rows]), places(agent, buffer.next_observations[rows])
    decoded = [agent.language_policy.encoder.decode(row) for row in buffer.observations[rows]]
    played, relabelled = set(), set()
    for number, ((episode, step), (where, then)) in enumerate(zip(before, after, strict=True)):
        reward, discount = float(buffer.rewards[number]), float(buffer.discounts[number])
        if "rest" in decoded[number]:
            assert (episode, discount) == (where, 0.0)
            assert reward == sum([1, 9][step:]), "ends with the second step, as told"
            relabelled.add((episode, step))
            continue
        assert episode == where
        assert 1 <= then - step <= N_STEPS
        assert reward == sum(range(step + 1, then + 1)), "no step is left out"
        assert discount == float(then < LENGTH)
        played.add((episode, step))
    if way in ONCE:
        assert len(played) + len(relabelled) == buffer.size, "nothing twice"
    if way in CUT:  # five steps were taken in each of both environments, and all of them are there
        first = sorted({episode for episode, _ in played}, key=[episode for episode, _ in before].index)[:2]
        assert {(episode, step) for episode in first for step in range(5)} <= played
    if options:
        assert relabelled
        assert {(episode, step) for episode, step in played if step < 2} >= relabelled
        assert buffer.priorities is not None
        assert (buffer.priorities[np.arange(buffer.size)] > 0).all()


@pytest.mark.parametrize("way", SOME)
def test_demonstrations_stay_and_no_episode_is_joined_with_them(way: Any, tmp_path: Path) -> None:
    agent = DQN(env=new_env(DQN), seed=0, **OPTIONS[DQN])
    words = {"instruction": ["walk"] * 3, "observation": ["0 0", "0 1", "0 2"]}
    numbers = [np.zeros(2, dtype=np.float32)] * 3
    observations = agent.language_policy.encoder({**words, "numbers": numbers})
    agent.replay_buffer.keep_episode(observations, [0, 0], [50.0, 50.0], terminated=False)
    agent.learn(10)
    agent = way(agent, tmp_path / "agent")
    assert agent.replay_buffer.kept == 2
    assert agent.replay_buffer.rewards[:2].tolist() == [100.0, 50.0]
    assert (agent.replay_buffer.rewards[2 : agent.replay_buffer.size] < 50).all()


@pytest.mark.parametrize(
    ("kind", "way"), [*((PPO, way) for way in WAYS), *((kind, way) for kind in (A2C, REINFORCE) for way in SOME)]
)
def test_no_rollout_joins_two_episodes(kind: Any, way: Any, tmp_path: Path) -> None:
    agent = way(begun(kind), tmp_path / "agent")
    assert shown(agent)
    buffer = agent.rollout_buffer
    rows = buffer.observations.reshape(buffer.n_envs, buffer.buffer_size, -1)  # flattened by the training
    starts = buffer.episode_starts
    for env, steps in enumerate(rows):
        seen = places(agent, steps)
        for step in range(1, len(seen)):
            (episode, before), (where, then) = seen[step - 1 : step + 1]
            if starts.reshape(buffer.buffer_size, -1)[step, env]:
                assert (before, then) == (LENGTH - 1, 0)
            else:
                assert (episode, before + 1) == (where, then)


@pytest.mark.parametrize("way", WAYS)
def test_an_episode_of_a_group_is_whole(way: Any, tmp_path: Path, monkeypatch: Any) -> None:
    episodes: list[Any] = []
    train = GRPO.train

    def noted(self: GRPO) -> None:
        episodes.extend(one for group in self.groups.complete for one in group)
        train(self)

    monkeypatch.setattr(GRPO, "train", noted)
    agent = way(begun(GRPO), tmp_path / "agent")
    assert shown(agent)
    assert all(len(episode.rewards) == LENGTH for episode in episodes)
    assert len(episodes) >= 4, "one group before the interruption, another one behind it"
    for episode in (*episodes, *agent.groups._running):
        seen = places(agent, np.stack(episode.prompts))
        assert seen == [(seen[0][0], step) for step in range(len(seen))]
        assert episode.rewards == [step + 1 for step in range(len(seen))]


@pytest.mark.parametrize("way", WAYS)
def test_a_table_learns_of_no_step_between_episodes(way: Any, tmp_path: Path, monkeypatch: Any) -> None:
    steps: list[tuple[str, str]] = []
    update = QLearning._update

    def noted(self: Any, row: int, action: int, reward: float, following: Any, *rest: Any) -> None:
        if following is not None:
            steps.append((list(self.table.states)[row][1], following[1]))
        update(self, row, action, reward, following, *rest)

    monkeypatch.setattr(QLearning, "_update", noted)
    agent = begun(QLearning)
    followed = agent.exploration._followed.tolist()
    agent = way(agent, tmp_path / "agent")
    assert shown(agent)
    for before, after in steps:
        (episode, step), (where, then) = before.split(), after.split()
        assert (episode, int(step) + 1) == (where, int(then))
    if way in CUT:
        assert agent.exploration._followed.tolist() != followed, "another episode follows another value function"


def test_an_agent_that_never_played_is_not_interrupted(tmp_path: Path) -> None:
    """What is saved before a training begins goes on as if it had not been."""
    one = DQN(env=new_env(DQN), seed=0, exploration=Thompson(), **OPTIONS[DQN])
    one.save(tmp_path / "agent")
    other = DQN.load(tmp_path / "agent", env=new_env(DQN))
    for agent in (one, other):
        agent.learn(20)
    np.testing.assert_array_equal(one.replay_buffer.actions, other.replay_buffer.actions)


class StopBetweenRollouts(BaseCallback):
    """Ends a training as `heed train` does where a signal has come."""

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= 20:
            raise InterruptedError

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [PPO, GRPO, DQN])
def test_what_ends_between_two_rollouts_interrupts_nothing(kind: Any) -> None:
    agent = begun(kind)
    with pytest.raises(InterruptedError):
        agent.learn(100, StopBetweenRollouts(), reset_num_timesteps=False)
    assert agent._last_obs is agent.env.prompts
    assert agent.get_env_state() is not None
