"""What a checkpoint holds of a language policy: its weights, its language model, and how prompts are made for it.

Of a policy with an adapter it holds the adapter and the heads, and which model they belong to. That model's own weights
do not train, so they stay where they came from; their SHA-256 stands in the checkpoint, since on other weights the
adapter would mean something else. Of an agent that is shared (`heed.agents.persistence.export`) the language model
stands in a folder of its own, and the policy's other weights, its heads, in a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.utils import get_device
from torch import Tensor

from heed.agents.persistence.as_json import argument_from_json, argument_to_json
from heed.agents.persistence.checkpoint import (
    CheckpointError,
    as_json_text,
    read_tensors,
    require_fitting,
    tensor_names,
    write_tensors,
)
from heed.agents.persistence.optimizers import flatten_optimizer, read_optimizer, require_optimizer
from heed.agents.persistence.untrusted import check_language_model, limited_parameters
from heed.policies.adapters.adapters import is_of_adapter
from heed.policies.adapters.rank_budget import RankBudget
from heed.policies.backbones.precision import weights_dtype
from heed.policies.language_policy import LanguagePolicy
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model, read_shared_language_model, rebuild_language_model
from heed.policies.prompts.layout import modalities_from_json
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.segments import SegmentEncoder
from heed.policies.prompts.template import PromptTemplate
from heed.policies.q_network import LanguageQPolicy

WEIGHTS = "policy.safetensors"
"""The file of a checkpoint that holds the policy's weights."""

HEADS = "heads.safetensors"
"""Of a shared agent: all of its policy's weights that are not its language model's."""

_OF_LANGUAGE_MODEL = "network.model."
"""How the names of the language model's weights begin in a policy."""

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


def write_policy(
    policy: LanguagePolicy, policy_kwargs: dict[str, Any], rank_budget: RankBudget | None, folder: Path
) -> dict[str, Any]:
    """Write what a policy has learned, and its optimizer; return what `agent.json` is to say of both."""
    (folder / "language_model").mkdir()
    policy.language_model.save(folder / "language_model")
    write_tensors(folder / WEIGHTS, weights_to_save(policy))
    if rank_budget is not None:
        write_tensors(folder / _RANKS, rank_budget.get_state())
    optimizer, tensors = flatten_optimizer(policy.optimizer.state_dict())
    write_tensors(folder / _OPTIMIZER, tensors)
    return {**describe_policy(policy, policy_kwargs), "optimizer": optimizer}


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


# -- an adapter, and the model that it belongs to ------------------------------------------------------------


def weights_to_save(policy: LanguagePolicy) -> dict[str, Tensor]:
    """Return a policy's weights by name, without those of a language model that has an adapter."""
    weights: dict[str, Tensor] = policy.state_dict()
    base = _base(policy)
    return {name: weight for name, weight in weights.items() if weight.data_ptr() not in base}


def put_back(policy: LanguagePolicy, weights: Mapping[str, Tensor], file: Path) -> None:
    """Give a policy the weights that `weights_to_save` returned.

    Raises:
        CheckpointError: if they do not fit, naming `file`.
    """
    require_fitting(file, weights, weights_to_save(policy))
    policy.load_state_dict(dict(weights), strict=False)


def describe_base(language_model: LanguageModel) -> dict[str, Any]:
    """Return as JSON which model an adapter belongs to; nothing where there is none."""
    if language_model.adapter is None:
        return {}
    described = {"revision": language_model.revision, "sha256": language_model.fingerprint()}
    return described if language_model.quantized is None else {**described, "quantize": language_model.quantized}


def load_base(
    folder: Path, saved: Mapping[str, Any], base_model: str | None, *, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Load the model that a checkpoint's adapter belongs to.

    Args:
        folder: of the checkpoint.
        saved: `name`, and what `describe_base` returned.
        base_model: where the model is now, if it is not where it was.
        dtype: in which its weights were stored.

    Raises:
        CheckpointError: if it is not there, or has other weights.
    """
    name: str = saved["name"]
    revision = saved.get("revision") if base_model is None else None
    try:
        language_model = load_language_model(
            base_model or name, revision=revision, dtype=dtype, quantize=saved.get("quantize")
        )
    except LanguageModelError as error:
        raise CheckpointError(
            f"{folder} holds an adapter of the language model {name!r}, which is not to be had: {error} "
            "Where it is elsewhere, say so: load(..., base_model=FOLDER)."
        ) from None
    if language_model.fingerprint() != saved.get("sha256"):
        raise CheckpointError(
            f"{folder} holds an adapter that was trained on other weights than those of {base_model or name!r} "
            "(their SHA-256 differs): give the model that it was trained on, load(..., base_model=FOLDER)."
        )
    language_model.name = name
    return language_model


def _base(policy: LanguagePolicy) -> set[int]:
    """Return where in memory the weights are that an adapter leaves as they are."""
    if policy.language_model.adapter is None:
        return set()
    return {weight.data_ptr() for weight in policy.language_model.own_weights().values()}


# -- an agent that is shared ---------------------------------------------------------------------------------


def language_model_of(policy: LanguagePolicy) -> LanguageModel:
    """Return the language model as the policy has trained it, with the template of the policy's prompts."""
    trained: Any = policy.acting
    return dataclasses.replace(policy.language_model, model=trained.network.model, template=policy.encoder.template)


def heads_of(policy: LanguagePolicy) -> dict[str, Tensor]:
    """Return the weights of the acting policy that are not its language model's, but with those of an adapter."""
    weights = policy.acting.state_dict()
    adapted = policy.language_model.adapter is not None
    return {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(_OF_LANGUAGE_MODEL) or (adapted and is_of_adapter(name))
    }


def set_heads(policy: LanguagePolicy, heads: dict[str, Tensor], path: Path) -> None:
    """Put back what `heads_of` gave.

    Args:
        policy: whose heads they become.
        heads: weights by name.
        path: where they were read, for the error.

    Raises:
        CheckpointError: if they are not the heads of such a policy.
    """
    own = heads_of(policy)
    wrong = sorted(set(own) ^ set(heads)) or [name for name in sorted(own) if own[name].shape != heads[name].shape]
    if wrong:
        raise CheckpointError(f"{path} does not fit the agent: {wrong[0]!r} is missing, of another shape, or too much.")
    policy.acting.load_state_dict(heads, strict=False)
    if isinstance(policy, LanguageQPolicy):
        # A training that goes on from here learns towards the values that it begins with.
        policy.q_net_target.load_state_dict(policy.q_net.state_dict())
