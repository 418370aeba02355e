"""Actions that change from state to state, all the way: environment, prompt, score, buffers, PPO, DQN, checkpoints."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, GRPO, PPO, QLearning, load
from heed.agents.exploration import UCB, Boltzmann, EpsilonGreedy
from heed.agents.exploration import Schedule as ExplorationSchedule
from heed.agents.imitation.cloning import Cloning, clone
from heed.envs import ChangingActions, LanguageVecEnv
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import (
    DemonstrationError,
    Demonstrations,
    read_demonstrations,
    write_demonstrations,
)
from heed.evaluation.playing import greedy, run_episodes, sampled, success_rate, uniform
from heed.evaluation.playing.baselines import baseline_policy
from tests.agents.test_learning import OPTIONS
from tests.doors import COLORS, MOST, Dial, Doors, make_dials, make_doors

SEEDS = list(range(100))


@pytest.mark.parametrize(
    ("kind", "steps"),
    [pytest.param(PPO, 2560, id="ppo"), pytest.param(DQN, 2000, id="dqn", marks=pytest.mark.exhaustive)],
)
def test_an_agent_learns_to_choose_among_what_there_is(kind: Any, steps: int) -> None:
    agent = kind(env=make_doors(16), seed=0, **OPTIONS[kind])
    agent.learn(steps)
    assert success_rate(run_episodes(Doors, greedy(agent), SEEDS)) == 1.0
    assert success_rate(run_episodes(Doors, sampled(agent), SEEDS)) > 0.85
    # Each room has two or three doors: (1/2 + 1/3) / 2 of a room, and there are two rooms.
    chance = success_rate(run_episodes(Doors, uniform(agent.action_space), SEEDS))
    assert chance == pytest.approx((5 / 12) ** 2, abs=0.08)


def test_dqn_bootstraps_over_the_actions_of_the_next_state_only() -> None:
    agent = DQN(env=make_doors(2), seed=0, learning_starts=64, n_steps=1, gradient_steps=0)
    agent.learn(64)
    batch = agent.replay_buffer.at(np.arange(agent.replay_buffer.size))
    with torch.no_grad():
        values = agent._next_values(batch.next_observations)
        online, target = agent.q_net(batch.next_observations), agent.q_net_target(batch.next_observations)
    layout = agent.language_policy.encoder.layout
    counts = layout.numbers_of_actions(batch.next_observations.numpy())
    assert counts is not None
    assert set(counts.tolist()) == {2, 3}
    for row, count in enumerate(counts.tolist()):
        assert float(values[row]) == float(target[row, int(online[row, :count].argmax())])
    assert bool(values.isfinite().all())


@pytest.mark.parametrize(
    "exploration",
    [
        EpsilonGreedy(schedule=ExplorationSchedule.constant(1.0)),
        EpsilonGreedy(schedule=ExplorationSchedule.constant(0.5), temperature=0.1),
        Boltzmann(schedule=ExplorationSchedule.constant(5.0)),
    ],
    ids=["epsilon-greedy", "temperature", "boltzmann"],
)
def test_exploration_takes_every_action_that_there_is_and_no_other(exploration: Any) -> None:
    # The environment refuses an action beyond its list.
    agent = DQN(env=make_doors(4), seed=0, learning_starts=0, gradient_steps=0, exploration=exploration)
    agent.learn(400)
    buffer = agent.replay_buffer
    prompts: Any = buffer.observations[: buffer.size]
    counts = agent.language_policy.encoder.layout.numbers_of_actions(prompts)
    assert counts is not None
    taken = {(int(count), int(action)) for count, action in zip(counts, buffer.actions[: buffer.size], strict=True)}
    assert taken == {(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}


def test_random_actions_before_learning_are_drawn_from_the_list() -> None:
    agent = DQN(env=make_doors(4), seed=0, learning_starts=10_000)
    agent.learn(200)  # would raise


def test_strategies_with_values_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ucb .*epsilon-greedy or boltzmann"):
        DQN(env=make_doors(2), exploration=UCB())


def test_a_table_and_a_linear_head_are_refused() -> None:
    with pytest.raises(ValueError, match="agent with a language model"):
        QLearning(env=make_doors(1))
    with pytest.raises(ValueError, match="Use head='score'"):
        PPO(env=make_doors(8), policy_kwargs={"head": "linear"})


def test_a_group_relative_agent_takes_them_too() -> None:
    env = LanguageVecEnv([Doors] * 8, seed=0, group_size=4)
    agent = GRPO(env=env, group_size=4, n_steps=8, batch_size=32, seed=0, reference_coef=0.1)
    agent.learn(128)
    assert all(bool(parameter.isfinite().all()) for parameter in agent.policy.parameters())


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_a_loaded_agent_knows_what_its_actions_and_numbers_are(kind: Any, tmp_path: Path) -> None:
    options = {**OPTIONS[kind], **({"n_steps": 8, "batch_size": 32} if kind is PPO else {"learning_starts": 16})}
    agent = kind(env=make_doors(4, numbers=True), seed=3, **options)
    agent.learn(32)
    agent.save(tmp_path / "agent")
    alone = load(tmp_path / "agent")
    assert alone.action_space == ChangingActions(MOST)
    words = {
        "instruction": ["open the red door"],
        "observation": ["room 1"],
        "actions": [("open blue door", "open red door")],
        "numbers": np.array([[1.0, 2.0]], dtype=np.float32),
    }
    assert alone.action_probabilities(words).shape == (1, MOST)
    assert alone.action_probabilities(words)[0, 2] == 0
    with pytest.raises(ValueError, match="lack actions, numbers"):
        alone.action_probabilities({"instruction": ["open the red door"], "observation": ["room 1"]})


@pytest.mark.parametrize("picture", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_an_agent_learns_what_no_word_says(picture: bool) -> None:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 128, "learning_rate": 3e-3, "ent_coef": 0.0}
    env = make_dials(16, picture=picture)
    agent = PPO(env=env, seed=0, policy_kwargs={"model": "heed-tiny"}, **options)
    agent.learn(3072)
    assert success_rate(run_episodes(lambda: Dial(picture), greedy(agent), SEEDS)) > 0.95
    blind = PPO(env=make_dials(16, picture=picture), seed=0, policy_kwargs={"words_only": True})
    assert blind.language_policy.encoder.layout.width == 256
    assert success_rate(run_episodes(lambda: Dial(picture), greedy(blind), SEEDS)) < 0.65


def test_colors_are_all_asked_for() -> None:
    env = Doors()
    named = {env.reset(seed=seed)[0]["instruction"] for seed in range(50)}
    assert len(named) == len(COLORS)
    rows = make_doors(4).reset()["actions"]
    assert all(isinstance(texts, tuple) for texts in rows)


def test_demonstrations_hold_what_there_was_to_choose_from(tmp_path: Path) -> None:
    episodes = [outcome.demonstration for outcome in demonstrate(KnowingDoors, range(40), n_envs=4)]
    assert all(episode.success and len(episode) == 2 for episode in episodes)
    first = episodes[0]
    assert first.admissible is not None
    assert len(first.admissible) == 3
    color = first.instruction.removeprefix("open the ")
    chosen = [listed[action] for listed, action in zip(first.admissible, first.actions, strict=False)]
    assert chosen == [f"open {color}"] * 2
    transcript = first.read(2, ())["observation"][1]
    assert transcript == f"room 1\n> open {color}: room 2"
    path = tmp_path / "doors.jsonl.gz"
    written = Demonstrations(env="Doors", expert="bot", seed=0, action_texts=(), episodes=tuple(episodes))
    write_demonstrations(path, written)
    assert read_demonstrations(path, action_texts=()) == written
    damaged = path.with_suffix("")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    damaged.write_text(lines[0] + lines[1].replace('"actions": [', '"actions": [9, '))
    with pytest.raises(DemonstrationError, match="line 2 is damaged"):
        read_demonstrations(damaged)


@pytest.mark.parametrize("kind", [PPO, pytest.param(DQN, marks=pytest.mark.exhaustive)])
def test_an_agent_learns_from_them(kind: Any) -> None:
    episodes = [outcome.demonstration for outcome in demonstrate(KnowingDoors, range(100), n_envs=4)]
    agent = kind(env=make_doors(4), seed=0, **OPTIONS[kind])
    if kind is PPO:
        clone(agent, episodes, Cloning(epochs=10, batch_size=32, learning_rate=3e-3))
    else:
        agent.add_demonstrations(episodes)
        agent.pretrain(120)
    assert success_rate(run_episodes(Doors, greedy(agent), SEEDS)) > 0.95


class KnowingDoors(Doors):
    """With an expert."""

    def expert_action(self) -> int:
        return self._doors.index(self._named)


def test_baselines_are_shown_the_list(tmp_path: Path) -> None:
    def literal(observation: Any) -> Any:
        return next(text for text in observation["actions"] if text[5:] in observation["instruction"])

    class Last:
        def predict(self, observations: Any) -> Any:
            return np.array([len(listed) - 1 for listed in observations["actions"]])

    assert success_rate(run_episodes(Doors, baseline_policy("literal", literal, Doors()).choose, SEEDS[:50])) == 1.0
    assert success_rate(run_episodes(Doors, baseline_policy("last", Last(), Doors()).choose, SEEDS)) < 0.4
