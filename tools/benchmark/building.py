"""The models, environments and agents that are measured."""

from __future__ import annotations

import math
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.vec_env import VecEnv
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from heed.agents import PPO
from heed.envs.make import make
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

ACTION_TOKENS = 3
"""Tokens of a made-up action; two actions share their first, so the trie has something to merge."""


def new_llama(*, hidden: int, layers: int, vocabulary: int, positions: int, seed: int) -> PreTrainedModel:
    """Return a Llama with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    llama = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=1,
    )
    model: PreTrainedModel = LlamaForCausalLM._from_config(llama, attn_implementation="sdpa")
    model.train(False)
    return model


def new_actions(count: int) -> list[list[int]]:
    """Return the tokens of made-up actions."""
    return [[10 + index // 2, 60 + index % 2, 62] for index in range(count)]


def new_prompts(batch: int, length: int, vocabulary: int, seed: int) -> torch.Tensor:
    """Return made-up prompts without padding, (batch, length)."""
    return torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


def language_models(config: BenchmarkConfig) -> dict[str, LanguageModel]:
    """Return heed-tiny, and the larger model with heed-tiny's tokenizer."""
    tiny = load_language_model("heed-tiny")
    larger = new_llama(
        hidden=config.hidden, layers=config.layers, vocabulary=tiny.vocabulary, positions=1024, seed=config.seed
    )
    name = f"{config.layers} layers of {config.hidden}"
    return {"heed-tiny": tiny, name: LanguageModel(larger, tiny.tokenizer, name, tiny.template)}


def new_env(config: BenchmarkConfig, *, n_envs: int | None = None, history: int = 0) -> VecEnv:
    """Return the environments of a training."""
    return make(config.env, n_envs=n_envs or config.n_envs, seed=config.seed, history=history)


def new_agent(env: VecEnv, config: BenchmarkConfig, *, n_steps: int, n_epochs: int = 4, **policy: Any) -> PPO:
    """Return Heed's PPO, with `policy` as its `policy_kwargs`, and heed-tiny unless that names another model."""
    return PPO(
        env=env,
        n_steps=n_steps,
        batch_size=batch_size(env, n_steps),
        n_epochs=n_epochs,
        seed=config.seed,
        device=config.device,
        policy_kwargs={"model": "heed-tiny", **policy},
    )


def network_of(agent: PPO) -> LanguageNetwork:
    """Return the network of an agent's policy."""
    assert isinstance(agent.policy, LanguageActorCriticPolicy)
    assert isinstance(agent.policy.network, LanguageNetwork)
    return agent.policy.network


def batch_size(env: VecEnv, n_steps: int) -> int:
    """Return PPO's default minibatch, or the largest below it that leaves no rest of the rollout."""
    return math.gcd(env.num_envs * n_steps, int(ppo_defaults()["batch_size"]))


def ppo_defaults() -> dict[str, Any]:
    """Return what Heed's PPO does unless told otherwise, as far as SB3's knows it too."""
    names = ("learning_rate", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef")
    parameters = signature(PPO.__init__).parameters
    return {name: parameters[name].default for name in (*names, "max_grad_norm")}


def steps_in_rollout(agent: Any) -> int:
    """Return how many environment steps one rollout of an on-policy agent has."""
    return int(agent.n_steps * agent.n_envs)
