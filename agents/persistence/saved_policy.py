"""What a checkpoint holds of a language policy: its weights, its language model, and how prompts are made for it.

The weights of an adapter's base are no part of it (`heed.agents.persistence.base_weights`), and of an agent that is
shared the language model stands in a folder of its own (`heed.agents.persistence.shared`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.utils import get_device

from heed.agents.persistence.as_json import argument_from_json, argument_to_json
from heed.agents.persistence.base_weights import describe_base, load_base, put_back, weights_to_save
from heed.agents.persistence.checkpoint import CheckpointError, as_json_text, read_tensors, tensor_names, write_tensors
from heed.agents.persistence.optimizers import flatten_optimizer, read_optimizer, require_optimizer
from heed.agents.persistence.untrusted import check_language_model, limited_parameters
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.precision import weights_dtype
from heed.policies.language_policy import LanguagePolicy
from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import read_shared_language_model, rebuild_language_model
from heed.policies.prompts.layout import modalities_from_json
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.segments import SegmentEncoder
from heed.policies.prompts.template import PromptTemplate

WEIGHTS = "policy.safetensors"
"""The file of a checkpoint that holds the policy's weights."""

_RANKS = "ranks.safetensors"
_OPTIMIZER = "optimizer.safetensors"


def require_savable(policy_kwargs: Mapping[str, Any], device: torch.device | str) -> None:
    """Refuse an optimizer that could not train a policy on `device`, or not be saved with it.

    Raises:
        TypeError: if its class, its settings or its state cannot be saved.
        ValueError: if it makes no step.
    """
    if not policy_kwargs.keys() & {"optimizer_class", "optimizer_kwargs"}:
        return
    settings = policy_kwargs.get("optimizer_kwargs") or {}
    if not isinstance(settings, Mapping):
        raise TypeError(f"optimizer_kwargs is {settings!r}, but must be a dictionary.")
    as_json_text(argument_to_json("optimizer_kwargs", settings))
    require_optimizer(policy_kwargs.get("optimizer_class", torch.optim.Adam), settings, get_device(device))


def describe_policy(policy: LanguagePolicy, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what `agent.json` says of a language policy that was made of `policy_kwargs`."""
    encoder = policy.encoder
    return {
        "policy": {name: argument_to_json(name, v) for name, v in policy_kwargs.items() if name != "model"},
        "language_model": {
            "name": policy.language_model.name,
            "template": encoder.template.as_json(),
            "tied": policy.language_model.tied,
            **describe_base(policy.language_model),
        },
        "max_prompt_tokens": encoder.max_tokens,
        "segments": isinstance(encoder, SegmentEncoder),
        "modalities": encoder.layout.as_json(),
        "changing_action_texts": encoder.action_texts.texts,
    }


def write_policy(policy: LanguagePolicy, rank_budget: RankBudget | None, folder: Path) -> dict[str, Any]:
    """Write what a policy has learned, and its optimizer; return what `agent.json` is to say of the optimizer."""
    (folder / "language_model").mkdir()
    policy.language_model.save(folder / "language_model")
    write_tensors(folder / WEIGHTS, weights_to_save(policy))
    if rank_budget is not None:
        write_tensors(folder / _RANKS, rank_budget.get_state())
    optimizer, tensors = flatten_optimizer(policy.optimizer.state_dict())
    write_tensors(folder / _OPTIMIZER, tensors)
    return optimizer


def read_policy(
    policy: LanguagePolicy,
    rank_budget: RankBudget | None,
    folder: Path,
    optimizer: dict[str, Any],
) -> None:
    """Put back what `write_policy` wrote; `optimizer` is what `agent.json` says."""
    file = folder / WEIGHTS
    put_back(policy, read_tensors(file), file)
    if rank_budget is not None:
        rank_budget.set_state(read_tensors(folder / _RANKS))
    read_optimizer(policy.optimizer, optimizer, read_tensors(folder / _OPTIMIZER), folder / _OPTIMIZER)


def read_language_model(
    folder: Path, saved: dict[str, Any], base_model: str | None
) -> tuple[dict[str, Any], PromptEncoder]:
    """Return the policy's arguments with the language model in them, and the encoder that makes its prompts.

    Args:
        folder: the agent's files.
        saved: its `agent.json`.
        base_model: of an adapter, where the adapted model is, if not where it was.

    Raises:
        CheckpointError: if the language model is missing, or not what it was.
    """
    name, template = saved["language_model"]["name"], PromptTemplate.from_json(saved["language_model"]["template"])
    policy_kwargs = {key: argument_from_json(value) for key, value in saved["policy"].items()}
    if policy_kwargs.get("adapter") is not None:
        dtype = weights_dtype(policy_kwargs.get("weights", "float32"))
        language_model = load_base(folder, saved["language_model"], base_model, dtype=dtype)
    elif saved.get("shared"):
        with limited_parameters(folder.parent):
            try:
                language_model = read_shared_language_model(folder.parent, name, template)
            except LanguageModelError as error:
                raise CheckpointError(str(error)) from None
    else:
        check_language_model(folder / "language_model", tensors=len(tensor_names(folder / WEIGHTS)))
        with limited_parameters(folder):
            tied = saved["language_model"]["tied"]
            language_model = rebuild_language_model(folder / "language_model", name, template, tied=tied)
    encoder = language_model.encoder(
        template=template,
        max_tokens=saved["max_prompt_tokens"],
        modalities=modalities_from_json(saved["modalities"], saved["changing_action_texts"]),
        segments=bool(saved["segments"]),
    )
    policy_kwargs["model"] = language_model.give_away()
    return policy_kwargs, encoder
