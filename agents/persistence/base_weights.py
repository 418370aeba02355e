"""A checkpoint of a policy with an adapter: the adapter and the heads, and which model they belong to.

The model's own weights do not train, so they stay where they came from. Their SHA-256 stands in the checkpoint: on
other weights the adapter would mean something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heed.agents.persistence.checkpoint import CheckpointError, require_fitting
from heed.policies.language_policy import LanguagePolicy
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model

Policy = LanguagePolicy


def weights_to_save(policy: Policy) -> dict[str, Tensor]:
    """Return a policy's weights by name, without those of a language model that has an adapter."""
    weights: dict[str, Tensor] = policy.state_dict()
    base = _base(policy)
    return {name: weight for name, weight in weights.items() if weight.data_ptr() not in base}


def put_back(policy: Policy, weights: Mapping[str, Tensor], file: Path) -> None:
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


def _base(policy: Policy) -> set[int]:
    """Return where in memory the weights are that an adapter leaves as they are."""
    if policy.language_model.adapter is None:
        return set()
    return {weight.data_ptr() for weight in policy.language_model.own_weights().values()}
