# mypy: disable-error-code="arg-type"
"""What nobody can read costs an episode, wherever it comes: in trainings, evaluations, demonstrations, clones."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from transformers import GPT2Config, GPT2LMHeadModel

from heed.agents import DQN, PPO
from heed.agents.acting import policies_of, unreadable
from heed.agents.imitation.cloning import Cloning, clone
from heed.envs.demonstrations.demonstrate import demonstrate
from heed.envs.demonstrations.demonstrations import DemonstrationError
from heed.envs.faults import LostEpisodeWarning, TooManyLostEpisodesError
from heed.envs.vectorize import LanguageVecEnv, ProcessLanguageVecEnv, episode_seed
from heed.evaluation.playing.batch import Cell, play
from heed.policies.modalities.modality import modalities_of
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.layout import Actions
from heed.policies.prompts.prompt import PromptVecEnv
from tests.unreadable import KINDS, Unreadable

pytestmark = pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")


def prompts_of(
    kind: str, share: float = 0.3, step: int = 0, *, processes: int = 1, n_envs: int = 3, **options: Any
) -> Any:
    factories = [functools.partial(Unreadable, kind, share, step)] * n_envs
    options = {"seed": 0, **options}
    venv = (
        LanguageVecEnv(factories, **options)
        if processes == 1
        else ProcessLanguageVecEnv(factories, processes=processes, **options)
    )
    assert isinstance(venv.observation_space, spaces.Dict)
    modalities = modalities_of(venv.observation_space, venv.action_space)
    return PromptVecEnv(venv, load_language_model("heed-tiny").encoder(max_tokens=64, modalities=modalities))


def is_broken(seed: int, share: float = 0.3) -> bool:
    env = Unreadable("", share)
    env.reset(seed=seed)
    return bool(env._broken)


def play_on(env: PromptVecEnv, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, dtype=int))


def played(env: Any, steps: int = 24) -> tuple[list[Any], list[Any]]:
    """Return what each environment gave, and the records of what was lost."""
    env.reset()
    given: list[list[Any]] = [[env.words["observation"][index]] for index in range(env.num_envs)]
    for _ in range(steps):
        before = list(env.words["observation"])
        prompts = env.prompts
        _, rewards, dones, infos = env.step(np.zeros(env.num_envs, dtype=int))
        for index, info in enumerate(infos):
            lost = info.get("episode_lost", "")
            if lost:
                assert (rewards[index], dones[index]) == (0.0, True)
                assert "is_success" not in info
                assert "episode" not in info
                assert info["TimeLimit.truncated"]
                np.testing.assert_array_equal(info["terminal_observation"], prompts[index])
            given[index].append((before[index], bool(dones[index]), bool(lost), env.words["observation"][index]))
    losses = env.venv.lost_episodes
    return given, sorted((record.env, record.seed, record.step) for record in losses)


@pytest.mark.parametrize("step", [0, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_it_costs_the_episode_and_nothing_else(kind: str, step: int) -> None:
    env = prompts_of(kind, step=step)
    given, losses = played(env)
    expected = []
    for index in range(3):
        taken, number = 0, 0
        while taken <= 24:
            seed = episode_seed(0, index, number)
            number += 1
            if not is_broken(seed):
                taken += 3
            elif taken + step <= 24:
                expected.append((index, seed, step))
                taken += step
            else:
                break
    assert losses == sorted(expected)
    told = sum(lost for rows in given for _, _, lost, _ in rows[1:])
    assert told == (len(losses) if step else 0)
    shown = {row[-1] for rows in given for row in rows[1:]}
    assert all(text.startswith("step ") and text.isascii() for text in shown)


@pytest.mark.parametrize("step", [0, 2, 3])
def test_it_is_the_same_over_processes(step: int) -> None:
    if step == 2:
        pytest.skip("the ends and beginnings of episodes are what differs")
    one, two = (prompts_of("too long", step=step, processes=processes) for processes in (1, 2))
    try:
        assert played(one, 12) == played(two, 12)
        assert one.venv.lost_summary() == two.venv.lost_summary()
        assert one.venv.get_state() == two.venv.get_state()
    finally:
        two.close()


def test_all_too_long_is_told_at_once() -> None:
    for n_envs in (1, 12):
        with pytest.raises(ValueError, match="The instruction alone needs"):
            prompts_of("too long", 1.0, n_envs=n_envs).reset()


@pytest.mark.filterwarnings("ignore:A prompt of")
def test_one_readable_episode_is_looked_for_and_the_loss_is_told() -> None:
    seed = next(
        seed for seed in range(99) if is_broken(episode_seed(seed, 0, 0)) and not is_broken(episode_seed(seed, 0, 1))
    )
    env = prompts_of("too long", n_envs=1, seed=seed)
    with pytest.warns(LostEpisodeWarning, match="step 0: FaultError: nobody can read the observation: The instruction"):
        env.reset()
    assert env.venv.lost_count == 1


@pytest.mark.parametrize("step", [1, 3])
def test_what_is_never_readable_later_ends_the_training(step: int) -> None:
    env = prompts_of("surrogate" if step == 1 else "empty observation", 1.0, step=step, max_lost=5)
    env.reset()
    with pytest.raises(TooManyLostEpisodesError, match="6 episodes in a row were lost"):
        play_on(env, 40)


def test_a_state_is_brought_back_with_its_losses() -> None:
    env, again = prompts_of("too long", step=0), prompts_of("too long", step=0)
    played(env, 7)
    again.reset()
    prompts = again.set_state(env.venv.get_state())
    np.testing.assert_array_equal(prompts, env.prompts)
    assert again.venv.lost_count == env.venv.lost_count
    for _ in range(9):
        one, two = (each.step(np.ones(3, dtype=int)) for each in (env, again))
        np.testing.assert_array_equal(one[0], two[0])


def test_other_readers_of_the_same_environments() -> None:
    """A second agent's prompts are longer: it loses nothing, and the first one loses again."""
    venv = LanguageVecEnv([functools.partial(Unreadable, "too long")] * 2, seed=0)
    model = load_language_model("heed-tiny")
    short, long = (PromptVecEnv(venv, model.encoder(max_tokens=length)) for length in (64, 1024))
    lost = []
    for env in (short, long, short):
        before = venv.lost_count
        venv.seed(0)
        played_before = env.reset()
        assert len(played_before) == 2
        for _ in range(18):
            env.step(np.zeros(2, dtype=int))
        lost.append(venv.lost_count - before)
    assert lost[0] == lost[2] > lost[1] == 0


@pytest.mark.parametrize(
    ("agent_class", "options"),
    [
        (PPO, {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
        (DQN, {"learning_starts": 8, "buffer_size": 500, "train_freq": 8, "batch_size": 8, "hindsight": 2}),
    ],
)
def test_agents_go_on(agent_class: Any, options: dict[str, Any]) -> None:
    venv = LanguageVecEnv([functools.partial(Unreadable, "too long", 0.3, 0)] * 2, seed=0)
    model = load_language_model("heed-tiny-random")
    agent = agent_class(
        env=venv, seed=0, device="cpu", policy_kwargs={"model": model, "max_prompt_tokens": 64}, **options
    )
    agent.learn(32)
    assert venv.lost_count > 0
    assert agent.num_timesteps == 32


@pytest.fixture(scope="module")
def agent() -> PPO:
    venv = LanguageVecEnv([functools.partial(Unreadable, "")] * 2, seed=0)
    kwargs = {"model": load_language_model("heed-tiny-random"), "max_prompt_tokens": 64}
    return PPO(env=venv, n_steps=8, batch_size=16, seed=0, device="cpu", policy_kwargs=kwargs)


class Axis:
    label = "true"

    def __init__(self, kind: str, step: int):
        self.kind, self.step = kind, step

    def make_env(self, env_id: str) -> gymnasium.Env[Any, Any]:
        return Unreadable(self.kind, 0.3, self.step)


@pytest.mark.parametrize(("kind", "step"), [("too long", 0), ("surrogate", 2), ("no string", 3)])
def test_an_evaluation_misses_the_episode_only(agent: PPO, kind: str, step: int) -> None:
    seeds = range(12)
    broken = [seed for seed in seeds if is_broken(seed)]
    cells = [Cell(env="x", axis=Axis(kind, step), policy=policy) for policy in policies_of(agent)]
    result = play(cells, seeds, n_envs=4)
    assert len(broken) < 10
    for cell in cells:
        there = [episode.seed for episode in result.episodes if episode.policy == cell.policy.name]
        assert there == [seed for seed in seeds if seed not in broken]
    assert [missing.episodes for missing in result.missing] == [len(broken)] * 2


def test_demonstrations_give_up_the_episode_only(agent: PPO) -> None:
    seeds = range(12)
    for kind, step, choose in (("no string", 2, None), ("surrogate", 0, None), ("too long", 0, agent)):
        options: Any = {}
        if choose is not None:
            options = {
                "choose": lambda words, _: np.zeros(len(words["instruction"]), int),
                "refused": unreadable(agent),
            }
        outcomes = list(demonstrate(functools.partial(Unreadable, kind, 0.3, step), seeds, **options))
        given_up = {outcome.number for outcome in outcomes if outcome.given_up}
        assert given_up == {seed for seed in seeds if is_broken(seed)}
        assert {len(outcome.demonstration) for outcome in outcomes if not outcome.given_up} == {3}


def test_a_clone_leaves_out_what_it_cannot_read(agent: PPO) -> None:
    good = [outcome.demonstration for outcome in demonstrate(functools.partial(Unreadable, ""), range(4))]
    bad = [dataclasses.replace(demonstration, instruction="go on " * 200) for demonstration in good]
    with pytest.warns(UserWarning, match="4 of 8 demonstrations cannot be read, and are left out: The instruction"):
        cloned = clone(agent, [*good, *bad], Cloning(epochs=1, validation=0))
    assert cloned.examples == 12
    with pytest.raises(DemonstrationError, match="None of the 4 demonstrations can be read"):
        clone(agent, bad, Cloning(epochs=1, validation=0))


def test_an_action_that_leaves_no_room_for_a_prompt_is_refused() -> None:
    tiny = load_language_model("heed-tiny-random")
    config = GPT2Config(vocab_size=len(tiny.tokenizer), n_layer=1, n_embd=32, n_head=4, n_positions=64)
    model = LanguageModel(GPT2LMHeadModel(config), tiny.tokenizer, "gpt2", tiny.template)
    encoder = model.encoder(max_tokens=61, modalities=(Actions(2),))
    words = {
        "instruction": ["go"] * 3,
        "observation": ["here"] * 3,
        "actions": [("go on", "stop"), ("go on", "go " * 90), ("go on", "go " * 9)],
    }
    refused = encoder.refused(words)
    assert list(refused) == [1]
    assert "no prompt has room before it" in str(refused[1])
