"""What a checkpoint's files may say: checked before anything is made of them, since they may be a stranger's.

JSON that is well-formed, and whose digests are right, can still ask for a buffer of terabytes, a network of a billion
layers, or for an attribute of the agent that it has no business with. Whatever is wrong comes out as a
`CheckpointError` that says what.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from heed.agents.persistence.checkpoint import CheckpointError, read_json
from heed.policies.models.foreign_code import named_code
from heed.policies.prompts.layout import PromptLayout, modalities_from_json
from heed.policies.prompts.template import PromptTemplate

MOST = {
    "n_envs": 2**16,
    "ranks": 2**16,
    "max_prompt_tokens": 2**20,
    "actions": 2**20,
    "columns": 2**24,
}
"""The largest numbers that a checkpoint may ask for, far beyond any that a training had."""
MOST_HEADS = 1000
"""Value functions of an exploration."""
MOST_MEMORIES = 4
"""How many times this machine's memory buffers may be: they take it only as they fill."""
MOST_EXTRA_NUMBERS = 2**24
"""How many more numbers than four times its tensors' bytes the networks of a checkpoint may have."""

_STEP_BYTES = 64
"""Of a step in a buffer, besides its prompts."""
_BOX_TYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@contextlib.contextmanager
def as_checkpoint_error(folder: Path, *, plays: bool = False) -> Iterator[None]:
    """Turn whatever goes wrong while an agent is made of a checkpoint's content into a `CheckpointError`.

    Args:
        folder: the checkpoint.
        plays: whether environments play meanwhile, whose own errors pass. A graphics card's want of memory always does.

    Raises:
        CheckpointError: in place of other errors.
    """
    try:
        yield
    except (CheckpointError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if plays and type(error).__module__.startswith("heed."):
            raise
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise CheckpointError(f"{folder} does not hold what an agent is made of ({told}).") from error


def check_agent(path: Path, saved: Any, *, arguments: Collection[str], counters: Collection[str]) -> None:
    """Check the content of an `agent.json`.

    Args:
        path: of the file, for messages.
        saved: its content.
        arguments: names that the agent's constructor takes from a checkpoint.
        counters: names of the agent's attributes that a checkpoint brings back.

    Raises:
        CheckpointError: naming the file and what of it cannot be.
    """
    with _telling(path):
        _require_kinds(saved, dict, ("arguments", "counters", "action_space"))
        for name in saved["arguments"]:
            _require(name in arguments, f"{name!r} is no argument that a checkpoint has")
        for name, value in saved["counters"].items():
            _require(name in counters, f"{name!r} is nothing that a checkpoint counts")
            _require(_is_number(value), f"the counter {name!r} is {value!r}, which is no number")
        _at_most("n_envs", saved.get("n_envs"), least=1)
        _at_most("ranks", saved.get("ranks", 1), least=1)
        for name, value in _integers(saved["arguments"].get("exploration")):
            _require(
                abs(value) <= MOST_HEADS, f"the exploration's {name!r} is {value}, but may be {MOST_HEADS} at most"
            )
        _check_actions(saved["action_space"])
        if not saved.get("shared"):
            _check_training(saved)
        if "language_model" in saved:
            _check_prompts(saved)
            _check_buffers(saved)


def check_language_model(folder: Path, tensors: int) -> None:
    """Check a language model's configuration before transformers reads it.

    Args:
        folder: of configuration and tokenizer.
        tensors: how many the checkpoint holds; a model has no more layers.

    Raises:
        CheckpointError: if there is no configuration, it describes more layers, or a file names code to be run.
    """
    path = folder / "config.json"
    config = read_json(path)
    with _telling(folder):
        code = named_code(folder)
    if code is not None:
        raise CheckpointError(code)
    with _telling(path):
        _require(isinstance(config, dict), "it is no object")
        for name, value in _integers(config):
            if "layer" in name or "expert" in name:
                _require(value <= max(tensors, 1), f"{name!r} is {value}, but the checkpoint has {tensors} tensors")
            _require(abs(value) < 2**40, f"{name!r} is {value}")


@contextlib.contextmanager
def limited_parameters(folder: Path) -> Iterator[None]:
    """Refuse networks that are far larger than the tensors of the checkpoint `folder`, while they are built.

    A parameter's memory is used only when something is written into it, which this comes before.

    Raises:
        CheckpointError: if they are.
    """
    left = MOST_EXTRA_NUMBERS + 4 * sum(path.stat().st_size for path in folder.rglob("*.safetensors"))

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise CheckpointError(f"{folder} describes networks far larger than the tensors in it: they are not built.")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what a check finds, or stumbles over, into an error that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}.") from None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _require_kinds(saved: Mapping[str, Any], kind: type, names: Iterable[str]) -> None:
    for name in names:
        _require(isinstance(saved.get(name), kind), f"its {name!r} are missing or no {kind.__name__}")


def _at_most(name: str, value: Any, *, least: int = 0) -> None:
    _require(
        isinstance(value, int) and least <= value <= MOST[name], f"{name} is {value!r}, but may be {MOST[name]} at most"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _integers(content: Any) -> Iterator[tuple[str, int]]:
    """Yield the integers in JSON objects, with their keys."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, int):
                yield key, value
            else:
                yield from _integers(value)
    elif isinstance(content, list):
        for value in content:
            yield from _integers(value)


def _check_actions(space: Mapping[str, Any]) -> None:
    for name in ("n", "most", "binary"):
        if name in space:
            _at_most("actions", space[name])
    _at_most("actions", sum(space.get("nvec", ())))
    _require(all(isinstance(text, str) for text in space.get("texts", ())), "an action's text is no text")
    _require(space.get("dtype", "float32") in _BOX_TYPES, f"its actions are of type {space.get('dtype')!r}")


def _check_training(saved: Mapping[str, Any]) -> None:
    """Check what only a training needs, and a shared agent has not."""
    _require_kinds(saved, dict, ("random", "log"))
    _require_kinds(saved, list, ("episodes",))
    starts = saved.get("episode_starts")
    _require(starts is None or len(starts) == saved["n_envs"], "'episode_starts' is not of each environment")
    for name, (value, excluded) in saved["log"].items():
        _require(_is_number(value) and isinstance(excluded, list), f"the log's {name!r} is {value!r}")
    _check_episodes(saved["episodes"])


def _check_episodes(episodes: list[Any]) -> None:
    infos, successes = episodes
    for info in infos:
        _require(all(_is_number(info[name]) for name in ("r", "l")), "an episode's return or length is no number")
    _require(all(_is_number(success) for success in successes), "an episode's success is no number")


def _check_prompts(saved: Mapping[str, Any]) -> None:
    _require_kinds(saved, dict, ("policy",))
    _at_most("max_prompt_tokens", saved.get("max_prompt_tokens"), least=1)
    texts = saved.get("changing_action_texts", ())
    _require(all(isinstance(text, str) for text in texts), "an action's text is no text")
    for modality in modalities_from_json(saved["modalities"]):  # which refuse sizes that cannot be
        _at_most("columns", modality.columns, least=1)
    _require(isinstance(saved["language_model"]["name"], str), "the language model's name is no text")
    PromptTemplate.from_json(saved["language_model"]["template"])  # takes none that looks into objects, or runs on
    _require(saved["language_model"].get("tied") in (None, True, False), "its language model is tied to something")


def _check_buffers(saved: Mapping[str, Any]) -> None:
    """Refuse buffers that are far larger than this machine's memory."""
    arguments, modalities = saved["arguments"], modalities_from_json(saved["modalities"])
    steps = arguments.get("buffer_size") or arguments.get("n_steps", 1) * saved["n_envs"]
    width = PromptLayout(saved["max_prompt_tokens"], modalities).width
    needed, there = steps * (2 * 4 * width + _STEP_BYTES), memory()
    _require(
        needed <= MOST_MEMORIES * there,
        f"buffers of {steps} steps would need {needed / 2**30:.0f} GiB of memory; this machine has {there / 2**30:.0f}",
    )


def memory() -> int:
    """Return this machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
