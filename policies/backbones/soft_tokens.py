"""Vectors that stand before the tokens of a prompt, and that a causal model attends to as to tokens.

They are virtual tokens that train (`heed.policies.adapters.virtual_tokens`), or what a modality makes of an observation
(`heed.policies.modalities.modality`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.hidden_states import read_hidden_states


def require_room_before(model: PreTrainedModel, what: str) -> None:
    """Refuse a model that nothing can stand before.

    Args:
        model: any.
        what: is to stand there, for the message.

    Raises:
        ValueError: if the model has an encoder or is one, or does not see all that stands before.
    """
    backbone = backbone_of(model)
    if not backbone.has_room_before:
        raise ValueError(f"{what} stand before what a causal model reads, and this one {backbone.description}")
    if backbone.window is not None:
        raise ValueError(f"its sliding window would leave {what} behind")


def seen_behind(tokens: Tensor, count: int, positions: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the positions, (B, S), and the mask, (B, 1, S, P + S), of tokens (B, S) that stand behind P others."""
    batch, length = tokens.shape
    places = torch.arange(length, device=tokens.device)
    behind = count + (places.expand(batch, -1) if positions is None else positions)
    seen = (places <= places[:, None]).expand(batch, 1, -1, -1) if mask is None else mask
    return behind, torch.cat([seen.new_ones(batch, 1, length, count), seen], dim=3)


def read_behind(
    vectors: Tensor,
    model: PreTrainedModel,
    tokens: Tensor,
    read: Tensor,
    *,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the hidden states of tokens behind vectors, (P, D) or (B, P, D); otherwise as `read_hidden_states`."""
    batch, length = tokens.shape
    count = vectors.shape[-2]
    behind, seen = seen_behind(tokens, count, positions, mask)
    first = torch.arange(count, device=tokens.device)
    among = (first <= first[:, None]).expand(batch, 1, -1, -1)
    above = torch.cat([among, among.new_zeros(batch, 1, count, length)], dim=3)

    def in_place_of_the_first(_: nn.Module, __: tuple[Any, ...], embedded: Tensor) -> Tensor:
        own = vectors.to(embedded.dtype).expand(len(embedded), -1, -1)
        return torch.cat([own, embedded[:, count:]], dim=1)

    embedding = model.get_input_embeddings()
    assert embedding is not None
    hook = embedding.register_forward_hook(in_place_of_the_first)
    try:
        return read_hidden_states(
            model,
            torch.cat([tokens.new_zeros(batch, count), tokens], dim=1),
            read + count,
            positions=torch.cat([first.expand(batch, -1), behind], dim=1),
            mask=torch.cat([above, seen], dim=2),
        )
    finally:
        hook.remove()
