"""What an agent takes as its environment, and what it refuses, in a sentence that says what to do instead.

The constructor, `load` and `set_env` ask here alike. What is taken is a vector of language environments (from
`heed.envs.make` or `heed.envs.LanguageVecEnv`), with SB3's wrappers around it as far as they leave words alone.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_wrapper,
)

from heed.agents.exploration import IntrinsicRewardVecEnv
from heed.agents.rollouts.scaled_rewards import ScaledRewardsVecEnv
from heed.envs.contract import speaks_language
from heed.policies.modalities.modality import modalities_of
from heed.policies.prompts.prompt import PromptEncoder, PromptSpace, PromptVecEnv

_NOT_FOR_WORDS: dict[type[VecEnvWrapper], str] = {
    VecFrameStack: "`heed.envs.make(id, history=4)` shows past observations.",
    VecCheckNan: "Heed looks at every reward and observation itself: what is not finite costs its episode.",
    VecTransposeImage: "The key `image` is read as it is, (H, W, C).",
}
"""SB3's wrappers that no words go through, and what there is in their place."""


def require_language_vec_env(env: Any) -> VecEnv:
    """Refuse what is no vector of language environments, or has wrappers that no words go through.

    Returns:
        The same environment.

    Raises:
        TypeError: if it is no `VecEnv`.
        ValueError: if its observations carry no words, or a wrapper changes them.
    """
    if not isinstance(env, VecEnv):
        raise TypeError(_no_vec_env(env))
    _require_word_wrappers(env)
    space = env.observation_space
    if isinstance(space, PromptSpace):
        return env
    if not isinstance(space, spaces.Dict) or not {"instruction", "observation"} <= set(space.spaces):
        raise ValueError(
            f"This environment carries no words: its observations are {space}. Make it with `heed.envs.make`."
        )
    return env


def _no_vec_env(env: Any) -> str:
    """Say why something is no `VecEnv`, and how to make one of it."""
    if isinstance(env, str):
        return f"An agent takes environments, not an id: give env=heed.envs.make({env!r}, n_envs=8)."
    if isinstance(env, VectorEnv):
        return (
            f"{type(env).__name__} is Gymnasium's vector, not SB3's VecEnv: make the environments with "
            "`heed.envs.make(id, n_envs=...)`."
        )
    if isinstance(env, gymnasium.Env):
        if speaks_language(env):
            how = "put it into a vector, `heed.envs.LanguageVecEnv([lambda: env])`, or better several of its kind."
        else:
            name = repr(env.spec.id) if env.spec is not None else "id"
            how = f"it is a single environment without words, which `heed.envs.make({name}, n_envs=8)` gives it."
        return f"{type(env).__name__} is not a VecEnv: {how}"
    if callable(env):
        return (
            f"{getattr(env, '__name__', type(env).__name__)} is not a VecEnv, but something that may make an "
            "environment: give `heed.envs.LanguageVecEnv([function] * 8)`."
        )
    return (
        f"{type(env).__name__} is not a VecEnv: make the environment with `heed.envs.make(id, n_envs=...)`, "
        "or put a language environment of your own into `heed.envs.LanguageVecEnv([lambda: env])`."
    )


def _require_word_wrappers(env: VecEnv) -> None:
    """Refuse wrappers that no words go through, and prompts that a wrapper would change."""
    for kind, instead in _NOT_FOR_WORDS.items():
        if unwrap_vec_wrapper(env, kind) is not None:
            raise ValueError(
                f"{kind.__name__} is for arrays, but these observations are words: leave it out. {instead}"
            )
    normalization = reward_normalization(env)
    if normalization is not None and normalization.norm_obs:
        raise ValueError(
            "VecNormalize normalizes numbers, but these observations are words: give it norm_obs=False. It scales the "
            "rewards then, as ScaledRewardsVecEnv and `heed train --scale-rewards` do."
        )
    if not isinstance(env, PromptVecEnv) and unwrap_vec_wrapper(env, PromptVecEnv) is not None:
        outer = type(env).__name__
        raise ValueError(
            f"{outer} stands around prompts, not around words: give {outer}(heed.envs.make(...)), of which the agent "
            f"makes prompts by itself, or PromptVecEnv({outer}(heed.envs.make(...)), encoder)."
        )


def reward_normalization(env: VecEnv | None) -> VecNormalize | None:
    """Return SB3's `VecNormalize`, if it is around the environments."""
    return None if env is None else unwrap_vec_wrapper(env, VecNormalize)


def require_rewards_for_replay(env: VecEnv | None) -> None:
    """Refuse wrappers by which rewards of several units would stand in one replay buffer.

    Raises:
        ValueError: naming the wrapper.
    """
    outer = env
    while isinstance(outer, VecEnvWrapper):
        if isinstance(outer, ScaledRewardsVecEnv):
            raise ValueError(
                "ScaledRewardsVecEnv scales rewards when they come in, and a replay buffer would hold them in several "
                "units: leave it out, or use SB3's VecNormalize(env, norm_obs=False), which scales what is drawn."
            )
        if isinstance(outer, IntrinsicRewardVecEnv) and reward_normalization(outer) is not None:
            raise ValueError(
                "The replay buffer keeps the rewards that VecNormalize is given, without the intrinsic rewards that "
                "are added around it: put VecNormalize around IntrinsicRewardVecEnv."
            )
        outer = outer.venv


def fitting_env(env: Any, encoder: PromptEncoder, action_space: spaces.Space[Any]) -> VecEnv:
    """Return environments as an agent takes them that is made already: with the prompts that it reads.

    Args:
        env: language environments, or such whose observations are prompts.
        encoder: makes the prompts that the agent reads.
        action_space: of the agent.

    Raises:
        TypeError: as `require_language_vec_env`.
        ValueError: likewise; or if they have other actions, other prompts, or not what the agent reads besides the
            words.
    """
    venv = require_language_vec_env(env)
    require_same_actions(venv, action_space)
    if isinstance(venv.observation_space, PromptSpace):
        _require_same_prompts(venv.observation_space.encoder, encoder)
        return venv
    assert isinstance(venv.observation_space, spaces.Dict)
    given = {modality.key: modality for modality in modalities_of(venv.observation_space, venv.action_space)}
    for ours in encoder.layout.modalities:
        theirs = given.get(ours.key)
        if ours != theirs:
            raise ValueError(
                f"The agent reads `{ours.key}` of the shape {ours.shape} besides the text, but the environment gives "
                f"{'none' if theirs is None else f'one of the shape {theirs.shape}'}: use environments like those that "
                "it was made with."
            )
    return PromptVecEnv(venv, encoder)


def require_same_actions(env: VecEnv, action_space: spaces.Space[Any]) -> None:
    """Refuse environments with other actions than an agent's.

    Raises:
        ValueError: naming both.
    """
    if env.action_space != action_space:
        raise ValueError(f"The agent acts in {action_space}, but the environment's actions are {env.action_space}.")


def _require_same_prompts(theirs: PromptEncoder, ours: PromptEncoder) -> None:
    """Refuse prompts that are made in another way than those that the agent reads."""
    if theirs is ours:
        return
    for what, one, other in (
        ("max_tokens", theirs.max_tokens, ours.max_tokens),
        ("template", theirs.template.text, ours.template.text),
        ("vocabulary", len(theirs.tokenizer), len(ours.tokenizer)),
        ("layout", theirs.layout, ours.layout),
        ("kind", type(theirs).__name__, type(ours).__name__),
    ):
        if one != other:
            raise ValueError(
                f"The environment's prompts are not those that the agent reads: their {what} is {one!r}, the agent's "
                f"{other!r}. Give the environment without PromptVecEnv: the agent makes the prompts itself."
            )


def without_env(name: str, policy: Any) -> str:
    """Return what to tell of an agent that was given no environment, under its name, with its first argument."""
    if isinstance(policy, VecEnv | gymnasium.Env) or (callable(policy) and not isinstance(policy, type)):
        return f"The first argument of {name} is the policy: give the environment by its name, {name}(env=...)."
    return f"{name} needs an environment to be made for: give env=heed.envs.make(id, n_envs=...)."
