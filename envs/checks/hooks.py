"""Checks of what an environment may offer besides the contract: an expert, and what its episodes fulfil."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.checks.check import BrokenRuleError, Check, failed, passed, short, told
from heed.envs.checks.playing import play, random_actions, reset, step
from heed.envs.contract import (
    ContractError,
    ExpertError,
    expert_of,
    fulfilled_instructions_of,
    impossible_instructions_of,
    number_of_actions,
    possible_instructions_of,
    sample_action,
)

STEPS = 100
"""Steps of an episode after which what it fulfilled is no longer looked at."""

INSTRUCTIONS = "Return a tuple of different, non-empty strings, always in the same order for the same seed."


def check_hooks(env: gymnasium.Env[Any, Any], seeds: Sequence[int], max_steps: int) -> Iterator[Check]:
    """Check those of the methods that `env` has.

    Raises:
        BrokenRuleError: if the environment breaks.
    """
    if expert_of(env) is not None:
        yield _check_expert(env, seeds, max_steps)
    try:
        fulfilled: Callable[[], Any] | None = fulfilled_instructions_of(env)
    except ContractError:
        fulfilled = None
    if fulfilled is not None:
        yield _check_fulfilled(env, fulfilled, seeds[0])
    possible, impossible = possible_instructions_of(env), impossible_instructions_of(env)
    if possible is not None:
        yield _check_other_instructions(env, "possible_instructions", possible, seeds)
        if fulfilled is None:
            yield failed(
                "possible instructions are told when done",
                "there is `possible_instructions`, but no `fulfilled_instructions`",
                "Add `fulfilled_instructions()`, which names each of them once it is done.",
            )
    if impossible is not None:
        yield _check_other_instructions(env, "impossible_instructions", impossible, seeds)


def _check_expert(env: gymnasium.Env[Any, Any], seeds: Sequence[int], max_steps: int) -> Check:
    """Play with the expert's actions; each is asked for twice."""
    name = "expert"
    expert = expert_of(env)
    assert expert is not None
    fix = "Let `expert_action()` return one of the actions that there are, and the same again if asked again."

    def choose(observation: Mapping[str, Any]) -> Any:
        try:
            action, again = expert(), expert()
        except ExpertError:
            raise
        except Exception as error:
            raise BrokenRuleError(failed(name, f"expert_action raised {told(error)}", fix)) from error
        if not np.array_equal(action, again):
            detail = f"expert_action said {short(action)}, and then {short(again)} in the same state"
            raise BrokenRuleError(failed(name, detail, fix))
        if not _is_action(env, observation, action):
            raise BrokenRuleError(failed(name, f"expert_action said {short(action)}, which is no action there", fix))
        return action

    given_up, successes, reason = 0, 0, ""
    for seed in seeds:
        try:
            successes += play(env, seed, max_steps, choose).success
        except ExpertError as error:
            given_up, reason = given_up + 1, str(error)
        except BrokenRuleError as fault:
            return fault.check
    detail = f"succeeds in {successes} of {len(seeds)} episodes"
    if given_up:
        detail += f", gives up in {given_up} ({short(reason)})"
    note = "" if successes else "It never succeeded: its demonstrations would teach little."
    return passed(name, detail, note=note)


def _is_action(env: gymnasium.Env[Any, Any], observation: Mapping[str, Any], action: Any) -> bool:
    if not isinstance(env.action_space, spaces.Discrete):
        return bool(env.action_space.contains(action))
    return isinstance(action, int | np.integer) and 0 <= int(action) < number_of_actions(env.action_space, observation)


def _check_fulfilled(env: gymnasium.Env[Any, Any], fulfilled: Callable[[], Any], seed: int) -> Check:
    """Ask after the reset and after each of some random steps."""
    name = "fulfilled instructions"
    fix = "Let `fulfilled_instructions()` return a dict: each instruction with the reward, a finite number, it brings."
    generator = random_actions(env, seed)
    observation, _ = reset(env, seed)
    told_of: set[str] = set()
    over, steps = False, 0
    while True:
        try:
            answer = fulfilled()
        except Exception as error:
            return failed(name, f"it raised {told(error)}", fix)
        if not isinstance(answer, Mapping) or not all(_is_fulfilled(*entry) for entry in answer.items()):
            return failed(name, f"it returned {short(answer)}", fix)
        told_of.update(answer)
        if over or steps == STEPS:
            return passed(name, f"{len(told_of)} different ones in an episode of {steps} random steps")
        observation, _, terminated, truncated, _ = step(env, sample_action(env.action_space, observation, generator))
        over, steps = terminated or truncated, steps + 1


def _is_fulfilled(instruction: Any, reward: Any) -> bool:
    return (
        isinstance(instruction, str)
        and bool(instruction.strip())
        and isinstance(reward, Real | np.number)
        and math.isfinite(float(reward))
    )


def _check_other_instructions(
    env: gymnasium.Env[Any, Any], method: str, ask: Callable[[], Any], seeds: Sequence[int]
) -> Check:
    """Ask after resets, each seed twice."""
    name = method.replace("_", " ")
    count = 0
    for seed in seeds:
        answers = []
        for _ in range(2):
            observation, info = reset(env, seed)
            own = info.get("instruction", observation["instruction"])  # an axis may show another
            try:
                answers.append(ask())
            except Exception as error:
                return failed(name, f"it raised {told(error)}", INSTRUCTIONS)
        answer = answers[0]
        if not isinstance(answer, tuple) or not all(isinstance(text, str) and text.strip() for text in answer):
            return failed(name, f"it returned {short(answer)}", INSTRUCTIONS)
        if answer != answers[1] or len(set(answer)) < len(answer):
            what = "differed for the same seed" if answer != answers[1] else "names one twice"
            return failed(name, f"what it returned {what}: {short(answer)}", INSTRUCTIONS)
        if own in answer:
            return failed(name, f"the episode's own, {own!r}, is among them", "Leave it out.")
        count += len(answer)
    return passed(name, f"{count / len(seeds):.1f} in an episode")
