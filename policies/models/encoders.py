"""Encoders as language models: BERT, RoBERTa, ModernBERT and others of their kind, which read a text as a whole.

What stands before a token and what stands behind it both count, so a text has no likelihood that could score an action.
There is one vector of a text instead, *pooled* from its tokens' states: their mean, or the first token's.
[sentence-transformers](https://sbert.net) writes which of them a model was trained for into `1_Pooling/config.json`
beside it; without such a file it is the mean, which for encoders that only learned to fill gaps tells more of a text
than the first token (Reimers and Gurevych 2019, arXiv 1908.10084, table 6 and section 4).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from heed.policies.backbones.backbone import backbone_kind
from heed.policies.caches.batching import chunks_of_like_length
from heed.policies.models.bundled_adapter import UNMERGED, merge_bundled_adapter
from heed.policies.models.model_folder import require_whole
from heed.policies.models.pretrained import align, quietly, require_finite, supported_attention
from heed.policies.prompts.prompt import tokens_around
from heed.policies.prompts.text_tokens import TextTokens

Pooling = Literal["mean", "cls"]
"""How a text's vector comes of its tokens' states: their mean, those of special tokens included, or the first one's."""

POOLING_FILE = "1_Pooling/config.json"
"""Where sentence-transformers keeps how a model pools."""

_MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class EncoderError(ValueError):
    """An encoder cannot be used. The message says why."""


def load_encoder(config: PretrainedConfig, source: dict[str, Any], dtype: Any) -> PreTrainedModel:
    """Load an encoder without what stands on it: of a model that fills gaps, the bare encoder.

    One that never trains has no weights to be read.

    Args:
        config: of the model.
        source: where it is, as `from_pretrained` takes it.
        dtype: of the weights.

    Raises:
        ModelFilesError: if the checkpoint lacks weights of the encoder, has more, or some that are not finite.
    """
    if not backbone_kind(config).trains:
        return new_encoder(config, torch.float32 if dtype == "auto" else dtype)
    with quietly():
        model, found = AutoModel.from_pretrained(
            **source,
            **_without_pooler(config),
            config=config,
            dtype=dtype,
            attn_implementation=supported_attention(MODEL_MAPPING[type(config)]),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # then it tells of them, where it would only say that there are some
            **UNMERGED,
        )
    # What stands on the encoder, such as the filler of gaps, is there and not wanted; a layer too many is not.
    parts = {name for name, _ in model.named_children()}
    own = [
        name
        for name in found["unexpected_keys"]
        if name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0] in parts
    ]
    lacking = found["missing_keys"] or found["mismatched_keys"]  # then every other name may tell why
    require_whole({**found, "unexpected_keys": found["unexpected_keys"] if lacking else own})
    encoder = merge_bundled_adapter(model, source)
    require_finite(encoder)
    align(encoder)
    return encoder


def new_encoder(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build such an encoder with weights of that type still to be loaded."""
    attention = supported_attention(MODEL_MAPPING[type(config)])
    model: PreTrainedModel = AutoModel.from_config(
        config, **_without_pooler(config), dtype=dtype, attn_implementation=attention, trust_remote_code=False
    )
    return model


def _without_pooler(config: PretrainedConfig) -> dict[str, Any]:
    """Return what keeps an encoder from having a layer of its own to pool with, which only its first training used."""
    found: Any = MODEL_MAPPING[type(config)]
    kinds = found if isinstance(found, tuple) else (found,)  # for a few configurations there are two
    has_one = all("add_pooling_layer" in inspect.signature(kind).parameters for kind in kinds)
    return {"add_pooling_layer": False} if has_one else {}


def find_pooling(source: dict[str, Any]) -> Pooling:
    """Return how a model pools: as sentence-transformers wrote beside it, else by the mean.

    Args:
        source: where the model is, as `from_pretrained` takes it.

    Raises:
        EncoderError: if it pools in a way that there is none of here.
    """
    where = dict(source)
    where.pop("trust_remote_code", None)
    path = cached_file(
        where.pop("pretrained_model_name_or_path"),
        POOLING_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **where,
    )
    return "mean" if path is None else read_pooling(Path(path))


def read_pooling(path: Path) -> Pooling:
    """Return how a model pools, by its `1_Pooling/config.json`.

    Raises:
        EncoderError: if that is no such file, or says what there is none of here.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        modes = sorted(name for name, chosen in saved.items() if name.startswith("pooling_mode_") and chosen is True)
    except (OSError, ValueError, AttributeError) as error:
        raise EncoderError(f"{path} does not say how the model pools: {error}") from None
    if len(modes) != 1 or modes[0] not in _MODES:
        told = " and ".join(modes) or "no mode"
        raise EncoderError(f"it pools by {told} ({path}), but heed knows {' and '.join(_MODES)}, one at a time")
    return _MODES[modes[0]]


def write_pooling(folder: Path, pooling: Pooling, width: int) -> None:
    """Write how a model pools into its folder, as sentence-transformers does; `width` is of its vectors."""
    path = folder / POOLING_FILE
    path.parent.mkdir(exist_ok=True)
    modes = {name: mode == pooling for name, mode in _MODES.items()}
    path.write_text(json.dumps({"word_embedding_dimension": width, **modes}, indent=2) + "\n", encoding="utf-8")


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before every text, and those behind it."""
    try:
        return tokens_around(tokenizer)
    except ValueError:
        raise EncoderError("its tokenizer changes a text where it puts special tokens around it") from None


def read_texts(
    model: PreTrainedModel,
    pooling: Pooling,
    texts: Sequence[npt.NDArray[np.integer[Any]]],
    firsts: Sequence[int] | None = None,
) -> Tensor:
    """Return the pooled vectors of texts, (N, D), those of like length read side by side.

    Args:
        model: an encoder.
        pooling: how a vector comes of tokens.
        texts: token ids, special ones included, N arrays.
        firsts: of pairs, how many tokens each has of type 0; the rest are of type 1. None where types do not matter.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    vectors = []
    for rows in chunks_of_like_length(lengths[order], model.device):
        chosen = order[rows]
        longest = max(1, int(lengths[chosen].max()))
        tokens = np.full((len(chosen), longest), _padding(model), dtype=np.int64)
        for row, index in zip(tokens, chosen, strict=True):
            row[: lengths[index]] = texts[index]
        places = np.arange(longest)
        real = torch.from_numpy(places < lengths[chosen][:, None]).to(model.device)  # (n, S)
        inputs = {"input_ids": torch.from_numpy(tokens).to(model.device), "attention_mask": real.long()}
        if firsts is not None:
            ends = np.array([firsts[index] for index in chosen])
            types = (places >= ends[:, None]) & (places < lengths[chosen][:, None])
            inputs["token_type_ids"] = torch.from_numpy(types.astype(np.int64)).to(model.device)
        vectors.append(pool(model(**inputs).last_hidden_state, real, pooling))
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return torch.cat(vectors)[torch.from_numpy(inverse).to(model.device)]


def pool(states: Tensor, real: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector for each text, (B, D), given its tokens' states (B, S, D) and which are no padding, (B, S)."""
    states = states if states.dtype == torch.float64 else states.float()
    if pooling == "cls":
        return states[:, 0]
    weights = real[..., None].to(states.dtype)
    mean: Tensor = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return mean


def _padding(model: PreTrainedModel) -> int:
    """Return the id to pad with: the model's own, behind which RoBERTa counts no positions.

    Some name one that they have no embedding for. Attention leaves padding out, so any other will do.
    """
    padding = getattr(model.config, "pad_token_id", None)
    embedding = model.get_input_embeddings()
    known = embedding.num_embeddings if isinstance(embedding, nn.Embedding) else 0
    return int(padding) if padding is not None and 0 <= padding < known else 0


class PairEndings:
    """What stands behind a closed text to make a pair of it and another, as a tokenizer writes pairs.

    Args:
        tokenizer: of an encoder.

    Raises:
        EncoderError: if in its pairs the first text does not stand as it does alone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._texts = TextTokens(tokenizer)
        alone, pair, second = tokenizer.encode("a"), tokenizer("a", "b"), self._texts.of("b")
        self.has_types = "token_type_ids" in pair
        """Whether the model is told which tokens are of the second text."""
        ids = list(pair["input_ids"])
        if ids[: len(alone)] != alone:
            raise EncoderError("its tokenizer does not write a pair as its first text with something behind it")
        if self.has_types:
            types = [0] * len(alone) + [1] * (len(ids) - len(alone))
            if not any(pair["token_type_ids"]):
                self.has_types = False
            elif pair["token_type_ids"] != types:
                raise EncoderError("its tokenizer gives the texts of a pair other types than 0 and 1")
        starts = (at for at in range(len(alone), len(ids)) if ids[at : at + len(second)] == second)
        start = next(starts, None)
        if start is None:
            raise EncoderError("its tokenizer reads the second text of a pair otherwise than it does alone")
        self._between, self._behind = ids[len(alone) : start], ids[start + len(second) :]
        self._endings: dict[str, npt.NDArray[np.int64]] = {}

    def of(self, text: str) -> npt.NDArray[np.int64]:
        """Return the token ids behind any first text that make a pair with `text`."""
        found = self._endings.get(text)
        if found is None:
            ids = [*self._between, *self._texts.of(text), *self._behind]
            found = self._endings[text] = np.array(ids, dtype=np.int64)
        return found
