"""Episodes for the step viewer: the one that the evaluation plays, with what the policy says of every step."""

from __future__ import annotations

import io
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from heed.agents import DQN, PPO
from heed.envs.demonstrations.demonstrate import action_generator
from heed.envs.make import make, make_env
from heed.envs.wrappers.history import History
from heed.evaluation.explanation import tracing as tracing_module
from heed.evaluation.explanation.episode import PICTURE
from heed.evaluation.explanation.recording import make_recordable_env, record_episode
from heed.evaluation.explanation.saliency import explain
from heed.evaluation.playing import run_episodes, sampled
from heed.evaluation.report import Trace, trace_episode
from heed.evaluation.report.viewer import viewer_data
from tests.buttons import Buttons, make_buttons
from tests.uniform import Uniform

LEVEL = "BabyAI-GoToLocal-v0"


def trace(env: gymnasium.Env[Any, Any], seed: int, agent: Any = None, **options: Any) -> Trace:
    agent = agent or Uniform(env.action_space)
    return trace_episode(agent, env, seed=seed, generator=action_generator(seed), **options)


@pytest.fixture(scope="module")
def ppo() -> PPO:
    return PPO(env=make(LEVEL, n_envs=1, seed=0), policy_kwargs={"model": "heed-tiny"}, n_steps=2, batch_size=2, seed=0)


def test_it_is_the_episode_that_is_evaluated_and_recorded(ppo: PPO) -> None:
    found = trace(make_recordable_env(LEVEL), 3, ppo, saliency=False)
    (episode,) = run_episodes(lambda: make_env(LEVEL), sampled(ppo), [3])
    assert (found.length, found.success) == (episode.length, episode.success)
    assert found.episode_return == pytest.approx(episode.episode_return)
    assert found.episode_return == pytest.approx(sum(step.reward for step in found.steps))
    recording = record_episode(ppo, make_recordable_env(LEVEL), seed=3, generator=action_generator(3))
    assert (recording.steps, recording.instruction) == (found.length, found.instruction)


def test_every_step_says_what_the_policy_says(ppo: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "FIRST_STEPS", 4)
    monkeypatch.setattr(tracing_module, "LAST_STEPS", 1)
    found = trace(make_env(LEVEL), 3, ppo)
    assert [step.number for step in found.steps] == [1, 2, 3, 4, found.length]
    for step in (found.steps[0], found.steps[-1]):
        words = {"instruction": step.instruction, "observation": step.observation}
        batch = {key: [text] for key, text in words.items()}
        assert step.probabilities == pytest.approx(ppo.action_probabilities(batch)[0], abs=1e-5)
        prompts, _ = ppo.policy.obs_to_tensor(batch)  # type: ignore[arg-type]
        with torch.no_grad():
            value = ppo.policy.predict_values(prompts)
        assert step.value == pytest.approx(float(value), abs=1e-4)
        expected = explain(ppo.language_policy, words, step.action)
        assert step.saliency is not None
        assert step.saliency.words == expected.words
        np.testing.assert_allclose(step.saliency.leave_one_out, expected.leave_one_out, atol=1e-5)
        assert step.action_texts is not None
        assert step.action_text == step.action_texts[step.action]
    assert found.explained_name == "log-probability"


def test_pictures_are_of_the_steps(ppo: PPO) -> None:
    env = make_recordable_env(LEVEL)
    found = trace(env, 3, ppo, saliency=False)
    env.reset(seed=3)
    for step in [*found.steps[:2], None]:
        png = found.end_picture if step is None else step.picture
        assert png is not None
        with Image.open(io.BytesIO(png)) as image:
            assert image.size == (PICTURE, PICTURE)
            if step is not None:
                pixels: Any = env.render()
                off = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
                assert off.mean() < 2
        if step is not None:
            assert step.saliency is None
            env.step(step.action)


def test_of_a_long_episode_the_beginning_and_the_end_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "FIRST_STEPS", 4)
    monkeypatch.setattr(tracing_module, "LAST_STEPS", 3)
    found = trace(make_env("BabyAI-KeyCorridorS3R1-v0"), 1)
    assert found.length > 100
    numbers = [step.number for step in found.steps]
    assert numbers == [1, 2, 3, 4, found.length - 2, found.length - 1, found.length]


def test_an_agent_without_a_language_policy_has_neither_value_nor_words() -> None:
    found = trace(Buttons(), 0)
    assert found.length == 1
    assert found.steps[0].value is None
    assert found.steps[0].saliency is None
    assert found.steps[0].picture is None  # nor does this environment draw
    assert viewer_data([found])


def test_actions_that_are_numbers_have_no_probabilities() -> None:
    found = trace(make_env("Pendulum-v1"), 0)
    assert found.steps[0].probabilities is None
    assert found.steps[0].action_text == "action 0.00"
    assert viewer_data([found])


def test_q_learning_tells_the_value_of_its_action() -> None:
    agent = DQN(env=make_buttons(1), learning_starts=1, buffer_size=10, batch_size=1, seed=0)
    found = trace(Buttons(), 0, agent)
    step = found.steps[0]
    words: Any = {"instruction": step.instruction, "observation": step.observation}
    prompts, _ = agent.policy.obs_to_tensor(words)
    with torch.no_grad():
        q_values = agent.q_net(prompts)[0]
    assert step.value == pytest.approx(float(q_values[step.action]), abs=1e-5)
    assert step.saliency is not None
    assert step.saliency.explained == pytest.approx(float(q_values[step.action] - q_values.mean()), abs=1e-5)
    assert found.value_name == "Q-value of the action"
    assert found.explained_name.startswith("Q-value above")


def test_of_a_history_the_end_shows_what_is_there_then() -> None:
    env = make_env(LEVEL, history=2)
    assert isinstance(env, History)
    found = trace(env, 3)
    assert "> " in found.steps[-1].observation
    assert found.end_observation == env.newest_observation


class Told(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows another instruction than the true one, as the axes of an evaluation do."""

    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        return {**observation, "instruction": "press nothing"}, {**info, "instruction": observation["instruction"]}

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "shown_success": False}


def test_the_true_instruction_stands_beside_the_one_that_is_shown() -> None:
    found = trace(Told(Buttons()), 0, title="swapped")
    assert found.instruction == "press nothing"
    assert found.true_instruction.startswith("press the")
    assert found.shown_success is False
    assert found.title == "swapped"
    assert trace(Buttons(), 0).shown_success is None
