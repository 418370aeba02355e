"""SB3's own entries to an agent: each works, or is refused in a sentence that says what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecNormalize

from heed.agents import A2C, DQN, GRPO, PPO, REINFORCE, CheckpointError, LanguageAgent, QLearning
from heed.agents.device import DeviceError, available_device
from heed.agents.exploration import CountBonus, IntrinsicRewardVecEnv
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs import LanguageVecEnv
from heed.policies import PromptVecEnv, load_language_model
from tests.agents.test_scaled_rewards import Wages
from tests.buttons import Buttons, make_buttons
from tests.doors import Dial, make_dials, make_doors

SMALL: dict[str, Any] = {"seed": 0, "device": "cpu"}
ROLLOUT: dict[str, Any] = {"n_steps": 8, **SMALL}
MAKERS: dict[str, Callable[..., LanguageAgent]] = {
    "ppo": lambda env, **more: PPO(env=env, batch_size=8, n_epochs=1, **{**ROLLOUT, **more}),
    "a2c": lambda env, **more: A2C(env=env, **{**ROLLOUT, **more}),
    "reinforce": lambda env, **more: REINFORCE(env=env, **{**ROLLOUT, **more}),
    "grpo": lambda env, **more: GRPO(env=env, group_size=2, batch_size=16, **{**ROLLOUT, **more}),
    "dqn": lambda env, **more: DQN(
        env=env, learning_starts=4, buffer_size=64, batch_size=4, train_freq=4, gradient_steps=1, **{**SMALL, **more}
    ),
    "q-learning": lambda env, **more: QLearning(env=env, **{**SMALL, **more}),
}
AGENTS = pytest.mark.parametrize("name", MAKERS)
SOME_AGENTS = pytest.mark.parametrize("name", ["ppo", "dqn", "q-learning"])


def envs(name: str, kind: Any = Buttons, n_envs: int = 2, seed: int = 0) -> LanguageVecEnv:
    """Return environments as the agent of that name takes them."""
    return LanguageVecEnv([kind] * n_envs, seed=seed, group_size=2 if name == "grpo" else 1)


def normalized(env: LanguageVecEnv, **more: Any) -> VecNormalize:
    return VecNormalize(env, norm_obs=False, gamma=0.9, **more)


# -- observations --------------------------------------------------------------------------------------------

ONE: Any = {"instruction": "press the red button", "observation": "three buttons"}
ACCEPTED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "one": (ONE, ()),
    "texts of numpy": ({key: np.array(text) for key, text in ONE.items()}, ()),
    "a dict of lists": ({key: [text, text] for key, text in ONE.items()}, (2,)),
    "a dict of arrays": ({key: np.array([text, text], dtype=object) for key, text in ONE.items()}, (2,)),
    "a list of dicts": ([ONE, ONE, ONE], (3,)),
    "an array of dicts": (np.array([ONE], dtype=object), (1,)),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "a bare text": ("press the red button", "not the text 'press the red button'"),
    "None": (None, "not None"),
    "a list of texts": (["red", "green"], "not 'red'"),
    "what reset returns": ((ONE, {}), "tuple"),
    "no observation": ({"instruction": "red"}, "no 'observation'"),
    "no observation in a list": ([ONE, {"instruction": "red"}], "but one is"),
    "an empty list": ([], "empty"),
    "an empty dict of lists": ({"instruction": [], "observation": []}, "empty"),
    "more under one key": ({"instruction": ["a", "b"], "observation": ["a"]}, "as much under each key"),
    "one text and several": ({"instruction": ["abc"], "observation": "abc"}, "a single text"),
    "a number for a text": ({"instruction": [1], "observation": ["a"]}, "no text"),
    "None for a text": ({"instruction": None, "observation": None}, "no text"),
    "the numbers of a plain environment": (np.zeros(4), "dicts? of texts|token ids"),
    "a set": ({"red"}, "dict of texts"),
}


@AGENTS
def test_predict_takes_words_in_every_form_and_says_what_it_cannot_read(name: str) -> None:
    agent = MAKERS[name](envs(name))
    for given, shape in ACCEPTED.values():
        assert np.shape(agent.predict(given, deterministic=True)[0]) == shape
    alone, _ = agent.predict(ONE, deterministic=True)
    together, _ = agent.predict([ONE, {**ONE, "instruction": "press the blue button"}], deterministic=True)
    assert together[0] == alone
    assert agent.action_probabilities([ONE, ONE]).shape == (2, 3)
    for given, told in REFUSED.values():
        for deterministic in (True, False):
            with pytest.raises((TypeError, ValueError), match=told):
                agent.predict(given, deterministic=deterministic)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        (np.zeros((2, 300), dtype=int), "300 wide"),
        (np.full((1, 256), 10**6), "no prompts of this agent"),
        (np.full((1, 256), -1), "no prompts of this agent"),
        (np.zeros((1, 2, 3), dtype=int), "of the shape"),
        (np.empty((0, 256), dtype=np.int16), "empty"),
    ],
)
def test_ids_that_are_no_prompts_are_refused(prompts: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        MAKERS["ppo"](make_buttons(1)).policy.predict(prompts)


def test_prompts_that_are_too_long_are_cut_or_refused() -> None:
    agent = MAKERS["ppo"](make_buttons(1), policy_kwargs={"max_prompt_tokens": 32})
    with pytest.warns(UserWarning, match="the end of its observation is cut"):
        agent.predict({**ONE, "observation": "a button " * 50})
    with pytest.raises(ValueError, match="instruction alone needs"):
        agent.predict({**ONE, "instruction": "press " * 50})


# -- environments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("CartPole-v1", r"heed\.envs\.make\('CartPole-v1', n_envs=8\)"),
        (Buttons(), r"LanguageVecEnv\(\[lambda: env\]\)"),
        (gymnasium.make("CartPole-v1"), r"heed\.envs\.make\('CartPole-v1', n_envs=8\)"),
        (Buttons, r"LanguageVecEnv\(\[function\] \* 8\)"),
        (lambda: Buttons(), r"LanguageVecEnv\(\[function\] \* 8\)"),
        ([Buttons], "not a VecEnv"),
        (gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"), "Gymnasium's vector"),
        (DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), "carries no words"),
        (None, "needs an environment"),
        (VecCheckNan(make_buttons(2)), "VecCheckNan is for arrays"),
    ],
)
@SOME_AGENTS
def test_what_is_no_vector_of_language_environments_is_refused(name: str, given: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        MAKERS[name](given)
    agent = MAKERS[name](envs(name))
    with pytest.raises((TypeError, ValueError), match=told if given is not None else "not a VecEnv"):
        agent.set_env(given)


def test_the_first_argument_is_the_policy() -> None:
    with pytest.raises(TypeError, match=r"PPO\(env=\.\.\.\)"):
        PPO(make_buttons(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="There is no policy 'MlpPolicy' here"):
        PPO("MlpPolicy", make_buttons(1), device="cpu")


def test_arguments_that_an_encoder_would_not_hear_of_are_refused() -> None:
    prompts = PromptVecEnv(make_buttons(1), load_language_model("heed-tiny").encoder(max_tokens=64))
    with pytest.raises(ValueError, match="max_prompt_tokens in policy_kwargs would change nothing"):
        PPO(env=prompts, policy_kwargs={"max_prompt_tokens": 32}, device="cpu")


@AGENTS
def test_set_env_goes_on_in_other_environments(name: str, tmp_path: Path) -> None:
    agent = MAKERS[name](envs(name))
    agent.learn(16)
    other = envs(name, seed=1)
    agent.set_env(other)
    assert agent.get_env() is other
    agent.learn(16, reset_num_timesteps=False)
    assert max(other.episodes) > 0
    agent.set_env(other, force_reset=False)
    with pytest.raises(ValueError, match="load"):
        agent.set_env(envs(name, n_envs=4))
    with pytest.raises(ValueError, match="force_reset=False"):
        agent.set_env(envs(name), force_reset=False)
    with pytest.raises(ValueError, match=r"The agent acts in .*press red.*, but the environment's actions are"):
        agent.set_env(make_dials(2))
    assert agent.get_env() is other
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", device="cpu")
    with pytest.raises(ValueError, match="no environment to train in"):
        loaded.learn(16)
    loaded.set_env(envs(name))
    loaded.learn(16, reset_num_timesteps=False)


def test_set_env_and_load_refuse_other_prompts_groups_and_modalities(tmp_path: Path) -> None:
    agent = MAKERS["ppo"](make_buttons(2))
    agent.save(tmp_path / "agent")
    shorter = PromptVecEnv(make_buttons(2), load_language_model("heed-tiny").encoder(max_tokens=64))
    with pytest.raises(ValueError, match="their max_tokens is 64, the agent's 256"):
        agent.set_env(shorter)
    with pytest.raises(ValueError, match="their max_tokens is 64, the agent's 256"):
        PPO.load(tmp_path / "agent", env=shorter, device="cpu")
    with pytest.raises(ValueError, match="groups"):
        MAKERS["grpo"](envs("grpo")).set_env(make_buttons(2))
    dial = MAKERS["ppo"](make_dials(2))
    with pytest.raises(ValueError, match="The agent reads `numbers`"):
        dial.set_env(LanguageVecEnv([lambda: Dial(picture=True)] * 2, seed=0))
    with pytest.raises(ValueError, match="The agent acts in"):
        MAKERS["ppo"](make_doors(2)).set_env(make_buttons(2))


# -- VecNormalize, callbacks, evaluation ---------------------------------------------------------------------


def test_a_replay_buffer_holds_the_rewards_that_there_were_and_scales_what_is_drawn() -> None:
    env = normalized(envs("dqn", Wages))
    agent = DQN(env=env, learning_starts=1000, buffer_size=64, n_steps=1, **SMALL)
    agent.learn(24)
    buffer = agent.replay_buffer
    assert set(np.unique(buffer.rewards[: buffer.size]).tolist()) <= {100.0, 200.0, 300.0, 600.0, -50.0, -100.0}
    batch = agent._sample(8)
    expected = buffer.at(batch.indices).rewards / float(np.sqrt(env.ret_rms.var + env.epsilon))
    torch.testing.assert_close(batch.rewards, expected.float().clamp(-10, 10))


def test_wrappers_that_would_spoil_a_learners_rewards_are_refused() -> None:
    around_prompts = VecNormalize(PromptVecEnv(make_buttons(1), load_language_model("heed-tiny").encoder()))
    with pytest.raises(ValueError, match=r"norm_obs=False.*ScaledRewardsVecEnv and `heed train --scale-rewards`"):
        MAKERS["ppo"](around_prompts)
    with pytest.raises(ValueError, match=r"norm_obs=False"):
        MAKERS["ppo"](VecNormalize(make_dials(1), norm_obs_keys=["numbers"]))
    around_prompts.norm_obs = False
    with pytest.raises(ValueError, match="stands around prompts"):
        MAKERS["ppo"](around_prompts)
    with pytest.raises(ValueError, match="several units"):
        MAKERS["dqn"](ScaledRewardsVecEnv(make_buttons(1), gamma=0.9))
    with pytest.raises(ValueError, match="put VecNormalize around IntrinsicRewardVecEnv"):
        MAKERS["dqn"](IntrinsicRewardVecEnv(normalized(make_buttons(1)), CountBonus(), coefficient=0.1))


@pytest.mark.parametrize("wrap", [lambda env: env, normalized], ids=["plain", "normalized"])
@SOME_AGENTS
def test_callbacks_of_sb3_evaluate_save_and_stop(name: str, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    agent = MAKERS[name](wrap(envs(name)))
    stop = StopTrainingOnRewardThreshold(-1.0, verbose=0)
    evaluating = EvalCallback(
        wrap(envs(name)),
        eval_freq=8,
        n_eval_episodes=2,
        verbose=0,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path / "best"),
        callback_on_new_best=stop,
    )
    every = EveryNTimesteps(8, CheckpointCallback(1, str(tmp_path / "every"), verbose=0))
    agent.learn(64, callback=[evaluating, every])
    assert agent.num_timesteps == 16
    assert (tmp_path / "evaluations.npz").is_file()
    assert type(agent).load(tmp_path / "best" / "best_model", device="cpu").num_timesteps == 16
    assert len(list((tmp_path / "every").iterdir())) == 2
    env = agent.get_env()
    assert env is not None
    assert len(evaluate_policy(agent, env, 2, return_episode_rewards=True)[1]) == 2  # type: ignore[arg-type]


# -- devices, parameters, files, seeds -----------------------------------------------------------------------


@SOME_AGENTS
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    agent = MAKERS[name](envs(name))
    agent.save(tmp_path / "agent")
    absent: list[Any] = ["nonsense", "meta", "cpu,cuda", 5, *([] if torch.cuda.is_available() else ["cuda", "cuda:7"])]
    absent += [] if torch.backends.mps.is_available() else ["mps"]
    for device in absent:
        with pytest.raises(DeviceError, match="device"):
            MAKERS[name](envs(name), device=device)
        with pytest.raises(DeviceError, match="device"):
            type(agent).load(tmp_path / "agent", device=device)


def test_the_gpus_that_there_are_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="cuda:7 is asked for, but there are only cuda:0, cuda:1"):
        available_device("cuda:7")
    assert available_device("cuda:1") == torch.device("cuda:1")
    assert available_device("cuda") == available_device("auto") == torch.device("cuda")


def test_parameters_go_from_one_agent_to_another_and_never_through_a_file() -> None:
    one, other = MAKERS["ppo"](make_buttons(1)), MAKERS["ppo"](make_buttons(1), seed=1)
    before = other.action_probabilities([ONE])
    one.set_parameters(other.get_parameters())
    np.testing.assert_array_equal(one.action_probabilities([ONE]), before)
    with pytest.raises(TypeError, match="load"):
        one.set_parameters("agent.zip")
    table = MAKERS["q-learning"](make_buttons(1))
    for refused in (table.get_parameters, lambda: table.set_parameters({})):
        with pytest.raises(TypeError, match="A table has no parameters"):
            refused()


def test_names_that_end_in_zip(tmp_path: Path) -> None:
    agent = MAKERS["ppo"](make_buttons(1))
    agent.save(tmp_path / "agent.zip")
    PPO.load(tmp_path / "agent.zip", device="cpu")
    agent.save(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"there is .*other: a checkpoint has the name"):
        PPO.load(tmp_path / "other.zip")
    (tmp_path / "sb3.zip").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="is a file, but a checkpoint is a folder"):
        PPO.load(tmp_path / "sb3.zip")


@SOME_AGENTS
def test_a_seed_that_is_set_later_gives_the_same_episodes_and_draws(name: str) -> None:
    played: list[Any] = []
    for _ in range(2):
        agent = MAKERS[name](envs(name))
        agent.learn(8)
        if played:
            agent.predict(ONE)  # draws once more
        agent.set_random_seed(7)
        agent.learn(8, reset_num_timesteps=False)
        env: Any = agent.env
        played.append(env.unwrapped.get_state())
    assert played[0] == played[1]
    assert (played[0]["seed"], min(played[0]["episodes"])) >= (7, 4)


def test_acting_ends_the_training_mode_and_switches_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = MAKERS["ppo"](make_buttons(1))
    agent.policy.set_training_mode(True)
    switched: list[bool] = []
    real = torch.nn.Module.train

    def look(module: Any, mode: bool = True) -> Any:
        switched.append(mode)
        return real(module, mode)

    monkeypatch.setattr(type(agent.policy), "train", look)
    for _ in range(3):
        agent.predict(ONE)
    assert switched == [False]
    assert not agent.policy.training


def test_predict_takes_auxiliary_observations_in_every_form() -> None:
    door: Any = {
        "instruction": "open the red door",
        "observation": "room 1",
        "actions": ("open red door", "open blue door"),
    }
    agent = MAKERS["ppo"](make_doors(2))
    alone, _ = agent.predict(door, deterministic=True)
    for batch in ([door, door], {key: [value, value] for key, value in door.items()}):
        assert agent.predict(batch, deterministic=True)[0].tolist() == [alone, alone]
    with pytest.raises(ValueError, match="lack actions"):
        agent.predict({key: text for key, text in door.items() if key != "actions"})
    dial: Any = {"instruction": "read the dial", "observation": "a dial", "numbers": np.zeros(3, dtype=np.float32)}
    agent = MAKERS["ppo"](make_dials(2))
    together: Any = {"instruction": ["read the dial"] * 2, "observation": ["a dial"] * 2, "numbers": np.zeros((2, 3))}
    expected = agent.predict(dial, deterministic=True)[0]
    assert agent.predict(together, deterministic=True)[0].tolist() == [expected, expected]
