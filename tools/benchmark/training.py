"""Where the time of a PPO training with heed-tiny goes, phase by phase."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.buffers import RolloutBuffer

from heed.envs.words.verbalize import VerbalizedEnv
from heed.policies.caches import prefixes
from heed.policies.heads.scoring import ActionScorer
from heed.policies.networks import text_network as network
from heed.policies.prompts.prompt import PromptEncoder
from heed.training.memory.peak import process_peak_mib
from tools.benchmark.building import new_agent, new_env, steps_in_rollout
from tools.benchmark.timing import wait_for_device
from tools.stopwatch import Stopwatch

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

LANGUAGE_MODEL = ("rollout forward", "train forward", "backward", "optimiser")
"""The phases in which a language model's arithmetic is done."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time a training.

    Returns:
        Steps per second, each phase's share of the time in percent, and the process's peak memory.
    """
    env = new_env(config)
    agent = new_agent(env, config, n_steps=config.n_steps)
    rollout = steps_in_rollout(agent)
    agent.learn(rollout)  # not counted: first calls, and prompts that are new to the encoder
    watch = Stopwatch(wait_for_device)
    with contextlib.ExitStack() as wrapped:
        for owner, method, name in (
            (env, "step_wait", "environment"),
            (VerbalizedEnv, "_words", "verbalise"),
            (PromptEncoder, "__call__", "tokenise"),
            # Around the language model: finding equal and known prompts, and putting readings back in order.
            (network.LanguageNetwork, "forward", "look-ups"),
            (ActionScorer, "__call__", _forward),
            (network, "last_hidden_state", _forward),
            (network, "score_contexts", _forward),
            (prefixes, "read_hidden_states", _forward),
            (torch.Tensor, "backward", "backward"),
            (torch.nn.utils, "clip_grad_norm_", "optimiser"),
            (agent.policy.optimizer, "step", "optimiser"),
            (RolloutBuffer, "add", "buffers"),
            (RolloutBuffer, "compute_returns_and_advantage", "buffers"),
            (RolloutBuffer, "_get_samples", "buffers"),
        ):
            wrapped.enter_context(watch.around(owner, method, name))
        with watch.phase("rest"):
            agent.learn(config.rollouts * rollout, reset_num_timesteps=False)
    env.close()
    seconds = sum(watch.seconds.values())
    percent = {name: 100 * spent / seconds for name, spent in sorted(watch.seconds.items(), key=lambda i: -i[1])}
    return {
        "env": config.env,
        "steps": config.rollouts * rollout,
        "seconds": seconds,
        "steps_per_second": config.rollouts * rollout / seconds,
        "percent": percent,
        "not_language_model_percent": 100 - sum(percent.get(name, 0.0) for name in LANGUAGE_MODEL),
        "peak_memory_mib": process_peak_mib(),
    }


def _forward() -> str:
    return "train forward" if torch.is_grad_enabled() else "rollout forward"


def report(result: dict[str, Any]) -> Iterator[str]:
    """Yield what to print."""
    shares = ", ".join(f"{name} {share:.1f} %" for name, share in result["percent"].items())
    yield f"training on {result['env']}: {result['steps_per_second']:.0f} steps/s ({shares})"
    yield (
        f"not the language model's arithmetic: {result['not_language_model_percent']:.1f} %; "
        f"peak memory of the process: {result['peak_memory_mib']} MiB"
    )
