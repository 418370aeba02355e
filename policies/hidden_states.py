"""Hidden states of a language model, computed where they are read.

A policy reads one position of a prompt, and a few behind it where actions are scored. All layers but the last need
every position; the last needs keys and values of every position, but queries and the feed-forward network only where
it is read. In a model of two layers that is almost half of the work. `transformers` computes all; for the Llama family
(Llama, Mistral, Qwen2, Qwen3) this module takes the last layer apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

FAMILY = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}
"""Models whose last layer is known well enough to be computed in part."""


def read_hidden_states(
    model: PreTrainedModel,
    tokens: Tensor,
    read: Tensor,
    *,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the final hidden states at some positions.

    Args:
        model: a language model with `sdpa` attention.
        tokens: token ids, (B, S).
        read: where to read, (B, R).
        positions: position ids, (B, S); 0, 1, 2, ... unless given.
        mask: what sees what, bool, (B, 1, S, S); causal unless given.

    Returns:
        (B, R, D).
    """
    if computes_last_layer_in_part(model):
        return _read_in_part(model, tokens, read, positions=positions, mask=mask)
    given = {"position_ids": positions, "attention_mask": mask}
    inputs = {name: tensor for name, tensor in given.items() if tensor is not None}
    hidden: Tensor = model.base_model(input_ids=tokens, use_cache=False, **inputs).last_hidden_state
    return _pick(hidden, read)


def computes_last_layer_in_part(model: PreTrainedModel) -> bool:
    """Say whether the last layer of `model` is computed only where it is read."""
    config = model.config
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ()) or (
        getattr(config, "sliding_window", None) is not None and getattr(config, "layer_types", None) is None
    )
    return (
        type(model.base_model).__name__ in FAMILY
        and getattr(config, "_attn_implementation", None) == "sdpa"
        and not windowed
        and not getattr(model.base_model, "gradient_checkpointing", False)
    )


def _read_in_part(
    model: PreTrainedModel, tokens: Tensor, read: Tensor, *, positions: Tensor | None, mask: Tensor | None
) -> Tensor:
    base: Any = model.base_model
    if positions is None:
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
    hidden = base.embed_tokens(tokens)  # (B, S, D)
    rotation = base.rotary_emb(hidden, position_ids=positions)
    for layer in base.layers[:-1]:
        hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotation)
    if mask is None:
        seen = torch.arange(tokens.shape[1], device=tokens.device) <= read[:, :, None]  # (B, R, S)
    else:
        seen = mask[:, 0].gather(1, read[:, :, None].expand(-1, -1, mask.shape[-1]))
    final: Tensor = base.norm(_last_layer(base.layers[-1], hidden, read, rotation, seen))
    return final


def _last_layer(layer: Any, hidden: Tensor, read: Tensor, rotation: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
    """Compute a Llama layer at the positions `read`, (B, R), each of which sees `seen`, (B, R, S)."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    query = _heads(attention.q_proj(_pick(normed, read)), attention, "q_norm")  # (B, H, R, D / H)
    key = _heads(attention.k_proj(normed), attention, "k_norm")
    value = _heads(attention.v_proj(normed), attention, None)
    cosine, sine = (part.expand(len(hidden), -1, -1) for part in rotation)  # (B, S, D / H)
    query = _rotate(query, _pick(cosine, read), _pick(sine, read))
    key = _rotate(key, cosine, sine)
    mixed = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=seen[:, None],
        scale=attention.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    state = _pick(hidden, read) + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    layer_output: Tensor = state + layer.mlp(layer.post_attention_layernorm(state))
    return layer_output


def _heads(projected: Tensor, attention: Any, norm: str | None) -> Tensor:
    """Split (B, S, H * E) into heads (B, H, S, E), normalised where the model does that (Qwen3)."""
    heads: Tensor = projected.unflatten(-1, (-1, attention.head_dim))
    if norm is not None and hasattr(attention, norm):
        heads = getattr(attention, norm)(heads)
    return heads.transpose(1, 2)


def _rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply rotary position embeddings (RoFormer, arXiv 2104.09864) to (B, H, S, E)."""
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return heads * cosine[:, None] + turned * sine[:, None]


def _pick(values: Tensor, read: Tensor) -> Tensor:
    """Return `values` (B, S, E) at the positions `read` (B, R): (B, R, E)."""
    return values.gather(1, read[:, :, None].expand(-1, -1, values.shape[-1]))
