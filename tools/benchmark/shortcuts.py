"""What each short cut of a training gives, by doing without it: steps per second, and whether anything else changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from heed.agents import PPO
from heed.agents.persistence.random_state import get_random_state, set_random_state
from heed.envs.babyai import words as babyai
from heed.policies.backbones import hidden_states
from heed.policies.caches import batching
from heed.policies.caches.batching import Inputs
from heed.policies.networks import text_network as network
from heed.policies.prompts.layout import PADDING
from heed.policies.prompts.prompt import PromptEncoder
from tools.benchmark.building import network_of, new_agent, new_env, steps_in_rollout
from tools.benchmark.timing import time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

Patch = contextlib.AbstractContextManager[Any]


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time rollout and update of PPO with heed-tiny, with all short cuts and without each of them, in turn.

    Returns:
        For each way its steps per second, how many times as long a step takes as with all, and whether the same
        seed led to the same actions throughout.
    """
    agents: dict[str, PPO] = {}
    for name in ("all", *WITHOUT):
        with _environments_of(name):
            agents[name] = new_agent(new_env(config), config, n_steps=config.n_steps)
    network_of(agents["without readings kept"]).memory = None
    actions: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in agents}
    steps = steps_in_rollout(agents["all"])

    # Actions and minibatches are drawn from global generators, so each way takes its own state of them along.
    begin = get_random_state(agents["all"].action_space)
    states = dict.fromkeys(agents, begin)

    def learn(name: str) -> None:
        space = agents[name].action_space
        set_random_state(space, *states[name])
        with WITHOUT.get(name, contextlib.nullcontext)():
            agents[name].learn(steps, reset_num_timesteps=False)
        states[name] = get_random_state(space)
        actions[name].append(agents[name].rollout_buffer.actions.copy())

    ways: dict[str, Callable[[], object]] = {name: partial(learn, name) for name in agents}
    timings = time_in_turn(ways, repeats=config.rounds)
    for agent in agents.values():
        assert agent.env is not None
        agent.env.close()
    return {
        name: {
            "seconds": timing.as_json(),
            "steps_per_second": timing.per_second(steps),
            "times_as_long": timing.median / timings["all"].median,
            "same_actions": all(map(np.array_equal, actions[name], actions["all"])),
        }
        for name, timing in timings.items()
    }


def _environments_of(name: str) -> Patch:
    if name != "without views from tables":
        return contextlib.nullcontext()
    return mock.patch.object(babyai, "speed_up")


def _every_prompt(prompts: torch.Tensor, actions: None = None) -> Inputs:
    """Take each row of a batch for a prompt of its own."""
    lengths = (prompts != PADDING).sum(dim=1).cpu().numpy()
    order = np.argsort(lengths, kind="stable")
    keys = [bytes(8) + int(row).to_bytes(8, "little") for row in order]  # never met before, nor again
    return Inputs(prompts, order, lengths[order], keys, torch.from_numpy(np.argsort(order)))


@contextlib.contextmanager
def _each_prompt_as_often_as_it_comes() -> Iterator[None]:
    # Without names for prompts, nothing could be remembered of them either: that is left out beside it.
    with (
        mock.patch.object(Inputs, "of", _every_prompt),
        mock.patch.object(network.LanguageNetwork, "_remember", lambda self, batch, still: self._read(batch)),
    ):
        yield


def _forgetful(original: Callable[..., Any]) -> Callable[..., Any]:
    def encode(self: PromptEncoder, observations: Any) -> Any:
        self._remembered.clear()
        return original(self, observations)

    return encode


WITHOUT: dict[str, Callable[[], Patch]] = {
    "without reading equal prompts once": _each_prompt_as_often_as_it_comes,
    "without readings kept": contextlib.nullcontext,
    "without chunks of like length": lambda: mock.patch.dict(batching.CHUNK_TOKENS, cpu=10**9, cuda=10**9),
    "without layers of our own": lambda: mock.patch.object(
        hidden_states, "computes_last_layer_in_part", return_value=False
    ),
    "without views from tables": contextlib.nullcontext,
    "without prompts kept": lambda: mock.patch.object(PromptEncoder, "__call__", _forgetful(PromptEncoder.__call__)),
}
"""For each way the short cut that it does without, while it takes its turn."""


def report(result: dict[str, Any]) -> Iterator[Table]:
    """Yield what to print."""
    table = Table(title="training heed-tiny with all short cuts, and without one", title_justify="left")
    for column in ("", "steps/s", "time of a step", "same actions"):
        table.add_column(column, justify="right")
    for name, measured in result.items():
        speed = measured["steps_per_second"]
        table.add_row(
            name,
            f"{speed['median']:.0f} ({speed['low']:.0f} to {speed['high']:.0f})",
            f"{measured['times_as_long']:.2f}x",
            "yes" if measured["same_actions"] else "no",
        )
    yield table
