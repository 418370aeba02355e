"""Language models as transformers loads them: whole, finite, and with an attention that the architecture has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from heed.policies.backbones.backbone import backbone_kind, backbone_of
from heed.policies.models.bundled_adapter import UNMERGED, merge_bundled_adapter
from heed.policies.models.model_folder import (
    ModelFilesError,
    require_files,
    require_no_quantization,
    require_tokenizer,
    require_whole,
)

CACHE_LINE = 64
"""Bytes at whose multiples PyTorch lets tensors begin on a CPU."""


def read_description(source: dict[str, Any]) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Return a model's configuration and tokenizer.

    Args:
        source: where it is, as `from_pretrained` takes it.

    Raises:
        ModelFilesError: if its files are not those of one whole model with plain weights.
        Exception: whatever transformers raises where it cannot read them.
    """
    folder = Path(source["pretrained_model_name_or_path"])
    if folder.is_dir():
        require_files(folder)
    config = AutoConfig.from_pretrained(**source)
    require_no_quantization(config)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**source)
    require_tokenizer(tokenizer, folder)
    return config, tokenizer


def read_model(config: PretrainedConfig, source: dict[str, Any], **options: Any) -> PreTrainedModel:
    """Load a causal or encoder-decoder model with its weights.

    Args:
        config: of the model.
        source: where it is, as `from_pretrained` takes it.
        options: for `from_pretrained`, such as the type of the weights.

    Raises:
        ModelFilesError: if its weights are not whole, or not all numbers.
        Exception: whatever transformers raises where it cannot read them.
    """
    with quietly():
        model, found = auto_class(config).from_pretrained(
            **source,
            config=config,
            attn_implementation=attention_of(config),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # then it tells of them, where it would only say that there are some
            **UNMERGED,
            **options,
        )
    require_whole(found)
    merged = merge_bundled_adapter(model, source)
    require_finite(merged)
    align(merged)
    merged.train(False)
    return merged


def auto_class(config: PretrainedConfig) -> Any:
    """Return the class of transformers that makes such a model."""
    return getattr(transformers, backbone_kind(config).auto_class)


def attention_of(config: PretrainedConfig) -> str:
    """Return `sdpa`, or what computes attention in models that it cannot serve, such as Gemma 2."""
    return supported_attention(auto_class(config)._model_mapping.get(type(config), None))


def supported_attention(kind: Any) -> str:
    """Return `sdpa` if a class of models, or each of several, has it, else `eager`."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return "sdpa" if all(one is None or getattr(one, "_supports_sdpa", False) for one in kinds) else "eager"


def require_finite(model: PreTrainedModel) -> None:
    """Refuse weights with a NaN or an infinity in them.

    Raises:
        ModelFilesError: naming the first such weight.
    """
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not weight.is_meta and not bool(torch.isfinite(weight).all()):
            count = int((~torch.isfinite(weight)).sum())
            raise ModelFilesError(
                f"its weights are not all finite: {name!r} holds NaN or infinity in {count} of {weight.numel()} places"
            )


def align(model: PreTrainedModel) -> None:
    """Copy weights that lie in memory as they do in their file to where PyTorch itself would have put them.

    Products of matrices that begin at different places of a cache line differ in their last bits, so a training that
    is resumed would differ from one that was never interrupted.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % CACHE_LINE:
            weight.data = weight.data.clone()


def require_usable(model: PreTrainedModel) -> None:
    """Refuse a model that is not what its backbone takes it for.

    Raises:
        ModelFilesError: saying why.
    """
    try:
        backbone_of(model).require_usable()
    except ValueError as error:
        raise ModelFilesError(str(error)) from None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within this, transformers shows no progress and tells nothing of missing weights: Heed refuses them itself."""
    verbosity, has_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bars:
            transformers_logging.enable_progress_bar()
