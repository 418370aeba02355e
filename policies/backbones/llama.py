"""The layers of the Llama family (Llama, SmolLM, Mistral, Qwen2, Qwen3), computed in fewer passes over memory.

In a small model most of the time goes not into matrix products but into what stands between them. `transformers` writes
the normalisation and the rotation of queries and keys as chains of simple operations, each of which reads and writes
all of its numbers, again in the backward pass. Here each is one function with a backward of its own. And the last layer
computes queries and the feed-forward network only at the positions that are read.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from heed.policies.backbones.activation_checkpointing import checkpointed, is_checkpointed

COMPILED: weakref.WeakSet[PreTrainedModel] = weakref.WeakSet()
"""Models whose layers run as `torch.compile` makes them; see `compile_layers`."""

FAMILY = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}
"""Models that are made of these layers."""


def read_llama(
    model: PreTrainedModel,
    tokens: Tensor,
    read: Tensor,
    *,
    positions: Tensor | None,
    mask: Tensor | None,
    cache: DynamicCache | None,
    lower: tuple[Tensor, int] | None,
) -> Tensor:
    """Return the final hidden states at the positions `read`; see `read_hidden_states`.

    Args:
        model: of the family, with `sdpa` attention and no sliding window.
        tokens: (B, S).
        read: (B, R).
        positions: (B, S), or None.
        mask: (B, 1, S, P + S), or None.
        cache: of P columns, or None.
        lower: what the lowest layers give, (B, S, D), and how many they are; or None.
    """
    base: Any = model.base_model
    if positions is None:
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
    hidden, below = (base.embed_tokens(tokens), 0) if lower is None else lower
    rotation = _rotation(model, *base.rotary_emb(hidden, position_ids=positions))
    compute = _compiled_layer() if model in COMPILED else _layer
    if is_checkpointed(model):
        compute = functools.partial(checkpointed, compute)
    for layer in base.layers[below:-1]:
        hidden = compute(layer, hidden, rotation, mask, cache)
    if mask is None:
        seen = torch.arange(tokens.shape[1], device=tokens.device) <= read[:, :, None]  # (B, R, S)
    else:
        seen = mask[:, 0].gather(1, read[:, :, None].expand(-1, -1, mask.shape[-1]))
    return _norm(base.norm, compute(base.layers[-1], hidden, rotation, seen[:, None], cache, read))


@functools.cache
def _compiled_layer() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(_layer, dynamic=True)
    return compiled


def _layer(
    layer: Any,
    hidden: Tensor,
    rotation: list[Tensor],
    mask: Tensor | None,
    cache: DynamicCache | None,
    read: Tensor | None = None,
) -> Tensor:
    """Compute a layer for `hidden`, (B, S, D), at all positions or at those of `read`, (B, R).

    The mask, bool, tells what each computed position sees; None stands for all before it.
    """
    attention = layer.self_attn
    normed = _norm(layer.input_layernorm, hidden)
    key = _rotated(normed, rotation, attention, "k")  # (B, H, S, E)
    value = attention.v_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    if read is not None:
        hidden, normed = pick(hidden, read), pick(normed, read)
        rotation = [pick(part.expand(len(read), -1, -1), read) for part in rotation]
    query = _rotated(normed, rotation, attention, "q")
    if cache is not None:
        key, value = cache.update(key, value, attention.layer_idx)
    mixed = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=attention.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    layer_output: Tensor = hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
    return layer_output


def pick(values: Tensor, read: Tensor) -> Tensor:
    """Return `values` (B, S, E) at the positions `read` (B, R): (B, R, E)."""
    return values.gather(1, read[:, :, None].expand(-1, -1, values.shape[-1]))


def _norm(module: Any, hidden: Tensor) -> Tensor:
    """Apply a root-mean-square normalisation of `transformers`."""
    return _RootMeanSquareNorm.of(hidden, module.weight, module.variance_epsilon)


# -- rotary position embeddings (RoFormer, arXiv 2104.09864) -----------------------------------------------------
#
# A head's numbers i and i + E / 2 are a point in the plane, turned by an angle. Were they side by side, turning all
# points would be one product of complex numbers. They are, if the rows of the projection's weight are put in that
# order first, which costs next to nothing. Queries and keys meet in sums over a head, which no order changes.


def _rotation(model: PreTrainedModel, cosine: Tensor, sine: Tensor) -> list[Tensor]:
    """Return the angles' complex numbers, [(B, S, E / 2)]; where those do not serve, [cosine, sine], each (B, S, E)."""
    if not _takes_pairs(model, cosine):
        return [cosine, sine]
    half = cosine.shape[-1] // 2  # both halves are the same
    return [torch.complex(cosine[..., :half], sine[..., :half])]


def _takes_pairs(model: PreTrainedModel, cosine: Tensor) -> bool:
    """Say whether projections are plain enough to take rows of their weights in another order."""
    base: Any = model.base_model
    return (
        cosine.dtype in (torch.float32, torch.float64)  # there are no complex numbers of bfloat16
        and not torch.is_autocast_enabled(cosine.device.type)
        and not hasattr(model, "virtual_tokens")  # their keys stand in the order of transformers
        # Not an adapter around one, which may be in the top layers only, not a quantised one.
        and all(type(layer.self_attn.q_proj) is torch.nn.Linear for layer in base.layers)
        and all(type(layer.self_attn.k_proj) is torch.nn.Linear for layer in base.layers)
    )


def _rotated(normed: Tensor, rotation: list[Tensor], attention: Any, name: str) -> Tensor:
    """Return queries or keys, normalised where the model does that (Qwen3), and rotated: (B, H, S, E)."""
    linear, norm = getattr(attention, f"{name}_proj"), getattr(attention, f"{name}_norm", None)
    width = attention.head_dim
    if len(rotation) == 2:
        heads = linear(normed).unflatten(-1, (-1, width))
        if norm is not None:
            heads = _norm(norm, heads)
        cosine, sine = rotation
        turned = _turn(heads, cosine[:, :, None], sine[:, :, None])
    else:
        bias = None if linear.bias is None else _side_by_side(linear.bias, width)
        heads = functional.linear(normed, _side_by_side(linear.weight, width), bias).unflatten(-1, (-1, width))
        if norm is not None:
            heads = _RootMeanSquareNorm.of(heads, _side_by_side(norm.weight, width), norm.variance_epsilon)
        points = torch.view_as_complex(heads.unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(points * rotation[0][:, :, None]).flatten(-2)
    rotated: Tensor = turned.transpose(1, 2)
    return rotated


def _side_by_side(weight: Tensor, width: int) -> Tensor:
    """Return the rows of `weight`, (H * E, ...), with i and i + E / 2 of each head next to each other."""
    paired: Tensor = weight.unflatten(0, (-1, 2, width // 2)).transpose(1, 2).flatten(0, 2)
    return paired


def _turn(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    turned: Tensor = heads * cosine + torch.cat([-second, first], dim=-1) * sine
    return turned


class _RootMeanSquareNorm(torch.autograd.Function):
    """y = w * x / rms(x) over the last dimension (Zhang and Sennrich, arXiv 1910.07467), in float32 at least."""

    @classmethod
    def of(cls, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Return `hidden`, (..., D), normalised and multiplied by `weight`, (D,)."""
        normed: Tensor = cls.apply(hidden, weight, epsilon)  # type: ignore[no-untyped-call]
        return normed

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden if hidden.dtype in (torch.float32, torch.float64) else hidden.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(wide.shape[-1])
        scale = scale.add_(epsilon).rsqrt_()
        normed = wide * scale
        ctx.save_for_backward(normed, scale, weight)
        ctx.dtype = hidden.dtype
        scaled: Tensor = weight * normed.to(hidden.dtype)
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        normed, scale, weight = ctx.saved_tensors
        gradient = gradient.to(normed.dtype)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient * normed).flatten(0, -2).sum(dim=0).to(weight.dtype)
        # With n = x s and g = dL/dn, dL/dx = s (g - n mean(g n)).
        of_normed = gradient * weight
        along = (of_normed.unsqueeze(-2) @ normed.unsqueeze(-1)).squeeze(-1).div_(normed.shape[-1])
        of_hidden = of_normed.addcmul_(normed, along, value=-1).mul_(scale)
        return of_hidden.to(ctx.dtype), of_weight, None
