"""Hindsight replay: what is stored beside an episode is what one would write down by hand."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

from heed.agents import DQN
from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv
from heed.agents.replay.hindsight import HindsightReplay, RelabelledEpisode
from heed.envs import ContractError, LanguageVecEnv, SubInstructionRewards, language_space
from heed.envs.make import make
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.prompt import PromptEncoder
from tests.buttons import make_buttons
from tests.places import STEP_COST, Places


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return load_language_model("heed-tiny").encoder(max_tokens=64)


def watch(replay: HindsightReplay, instruction: str, story: list[tuple[str, int, float, dict[str, float]]]) -> Any:
    """Let `replay` see one episode: the observation, action, reward and what was fulfilled, for each step."""
    found: list[RelabelledEpisode] = []
    for number, (observation, action, reward, fulfilled) in enumerate(story, 1):
        words = {"instruction": np.array([instruction]), "observation": np.array([observation])}
        done, infos = np.array([number == len(story)]), [{"fulfilled_instructions": fulfilled}]
        found += replay.step(words, replay.encoder(words), np.array([action]), np.array([reward]), done, infos)
    return found


def test_an_episode_in_hindsight_is_the_one_written_down_by_hand(encoder: PromptEncoder) -> None:
    replay = HindsightReplay(1, encoder, per_episode=4)
    story: list[Any] = [
        ("wall", 2, -0.5, {}),
        ("red ball 1 ahead", 0, -0.25, {"go to the red ball": 0.75}),
        ("nothing", 1, 0.0, {"go to the red ball": 0.5}),  # a second time counts for nothing
        ("key 1 ahead", 0, 0.875, {"go to the key": 0.625}),  # the instruction itself
    ]
    (episode,) = watch(replay, "go to the key", story)
    assert episode.instruction == "go to the red ball"
    assert episode.actions == [2, 0]
    assert episode.rewards == [-0.5, 0.75]
    expected = encoder({"instruction": ["go to the red ball"] * 2, "observation": ["wall", "red ball 1 ahead"]})
    np.testing.assert_array_equal(episode.prompts[:2], expected)
    assert len(episode.prompts) == 3
    assert watch(replay, "go to the key", story[:1]) == [], "an episode that fulfilled nothing, and nothing of the last"


def test_no_more_than_asked_for_are_drawn(encoder: PromptEncoder) -> None:
    replay = HindsightReplay(1, encoder, per_episode=2, seed=0)
    story: list[Any] = [("wall", 0, 0.0, {f"go to {number}": 1.0}) for number in range(5)]
    drawn = {tuple(episode.instruction for episode in watch(replay, "drop", story)) for _ in range(30)}
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert len(drawn) > 5


def test_transitions_in_hindsight_stand_beside_those_that_were_played(encoder: PromptEncoder) -> None:
    agent = DQN(
        env=LanguageVecEnv([Places], seed=3),
        n_steps=2,
        gamma=0.5,
        hindsight=3,
        buffer_size=100,
        learning_starts=1000,
        seed=1,
        policy_kwargs={"model": "heed-tiny", "max_prompt_tokens": 64},
    )
    agent.learn(60)
    buffer = agent.replay_buffer
    stored = {
        (
            encoder.decode(buffer.observations[row]),
            int(buffer.actions[row]),
            float(buffer.rewards[row]),
            encoder.decode(buffer.next_observations[row]) if buffer.discounts[row] else "",
            float(buffer.discounts[row]),
        )
        for row in range(buffer.size)
    }

    def prompt(instruction: str, observation: str) -> str:
        return encoder.decode(encoder({"instruction": [instruction], "observation": [observation]})[0])

    def ends(observation: str, action: int, instruction: str) -> bool:
        return (prompt(instruction, observation), action, 1.0, "", 0.0) in stored

    # Whatever was asked for: who stays in the middle is in the middle, who goes left from there is left.
    assert ends("you are middle", 2, "be middle")
    assert ends("you are middle", 0, "be left")
    assert ends("you are middle", 1, "be right")
    # Nobody's reward for one place is another's: every end of an episode is true.
    where = {0: "left", 1: "right"}
    for words, action, reward, _, discount in stored:
        if discount == 0.0 and reward == 1.0 and "you are middle" in words:
            goal = where.get(action, "middle")
            assert f"be {goal}" in words
        if discount == 0.25:
            assert reward == STEP_COST * 1.5


class Generous(VecEnvWrapper):
    """Somebody's own wrapper."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, rewards * 3 + 7, dones, infos


def with_bonus(env: Any) -> IntrinsicRewardVecEnv:
    return IntrinsicRewardVecEnv(env, CountBonus(), coefficient=5.0)


def normalized(env: Any) -> VecNormalize:
    return VecNormalize(env, norm_obs=False, gamma=0.5)  # scales what is drawn from the buffer, and not what is stored


@pytest.mark.parametrize(
    "wrap",
    [with_bonus, Generous, lambda env: Generous(with_bonus(env)), lambda env: normalized(with_bonus(env))],
    ids=["bonus", "own", "own around bonus", "normalized around bonus"],
)
def test_relabelled_is_the_environments_own_reward(wrap: Any, monkeypatch: Any) -> None:
    options: Any = {"learning_starts": 1000, "buffer_size": 100, "policy_kwargs": {"max_prompt_tokens": 64}}
    agent = DQN(env=wrap(LanguageVecEnv([Places] * 2, seed=3)), n_steps=1, hindsight=3, seed=1, **options)
    told: list[list[float]] = []
    monkeypatch.setattr(agent.replay_buffer, "add_episode", lambda p, a, rewards, **_: told.append(list(rewards)))
    agent.learn(60)
    assert {len(rewards) for rewards in told} > {1, 2}
    for rewards in told:
        expected = [STEP_COST] * (len(rewards) - 1) + [1.0]
        np.testing.assert_allclose(rewards, expected, rtol=1e-3)
    played = agent.replay_buffer.rewards[: agent.replay_buffer.size]
    assert not np.isin(played, [1.0, STEP_COST]).all(), "while the played ones are as the wrappers make them"


def test_rewards_for_parts_are_not_relabelled() -> None:
    """`SubInstructionRewards` pays for the parts of the instruction that stood, which is another one in hindsight."""
    env = LanguageVecEnv([lambda: SubInstructionRewards(Errands(), reward=4.0)], seed=0)
    options: Any = {"learning_starts": 1000, "buffer_size": 100, "policy_kwargs": {"max_prompt_tokens": 64}}
    agent = DQN(env=with_bonus(env), n_steps=1, hindsight=3, seed=1, **options)
    told: list[tuple[str, list[float]]] = []
    relabel = HindsightReplay._relabel

    def noted(self: HindsightReplay, episode: Any) -> Any:
        for one in relabel(self, episode):
            told.append((one.instruction, one.rewards))
            yield one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HindsightReplay, "_relabel", noted)
        agent.learn(12)
    assert set(map(repr, told)) == {"('fetch', [0.25])"}, "what was fulfilled once the part was paid is left out"


class Errands(gymnasium.Env[Any, Any]):
    """Fetch, pay, and leave, one after the other, whatever is done; every step costs."""

    action_texts = ("go on", "go on there")

    def __init__(self) -> None:
        self.observation_space, self.action_space = language_space(), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self._words(), -1.0, self._step == 3, False, {"is_success": self._step == 3}

    def fulfilled_instructions(self) -> dict[str, float]:
        return {} if self._step == 0 else {("fetch", "pay", "leave")[self._step - 1]: 0.25}

    def _words(self) -> dict[str, str]:
        return {"instruction": "fetch, then leave", "observation": f"errand {self._step}"}


def test_environments_that_cannot_tell_are_refused_at_once() -> None:
    with pytest.raises(ContractError, match="does not tell what an episode fulfilled"):
        DQN(env=make_buttons(1), hindsight=1)
    env = make("BabyAI-GoToLocal-v0", n_envs=1, seed=0)
    with pytest.raises(ValueError, match="hindsight is -1"):
        DQN(env=env, hindsight=-1)
