"""Tokens that are no words, before every prompt: what stands for them trains, and the language model does not.

*Prompt tuning* (Lester et al. 2021, arXiv 2104.08691) learns their embeddings; *prefix tuning* (Li and Liang 2021,
arXiv 2101.00190) their keys and values in every layer. Both begin with what real words have, which their papers found
better than random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from heed.policies.backbones.hidden_states import read_hidden_states
from heed.policies.backbones.soft_tokens import read_behind, require_room_before, seen_behind

MODULE = "virtual_tokens"
"""The name under which they stand in a language model."""


class VirtualTokens(nn.Module):
    """Virtual tokens of one model, which is left as it is.

    Args:
        model: a causal language model.
        method: what is learned of them: embeddings (`prompt`), or keys and values (`prefix`).
        count: how many there are, P.

    Raises:
        ValueError: if the model has an encoder, or does not see all that stands before.
    """

    def __init__(self, model: PreTrainedModel, method: Literal["prompt", "prefix"], count: int):
        super().__init__()
        require_room_before(model, "virtual tokens")
        self.count = count
        embedding: Any = model.get_input_embeddings()
        words = torch.randint(embedding.num_embeddings, (1, count), device=model.device)
        self.embeddings = self.states = None
        if method == "prompt":
            # Looked up, not taken from the weight: Gemma 3 scales what it looks up.
            self.embeddings = nn.Parameter(embedding(words[0]).detach().clone())  # (P, D)
        else:
            cache = DynamicCache()
            with torch.no_grad():
                # By transformers: layers of our own keep the numbers of keys in another order.
                model.base_model(input_ids=words, past_key_values=cache, use_cache=True)
            layers: Any = cache.layers
            pairs = [torch.cat([layer.keys, layer.values]) for layer in layers]
            self.states = nn.Parameter(torch.stack(pairs))  # (layers, 2, H, P, E)

    def read(
        self,
        model: PreTrainedModel,
        tokens: Tensor,
        read: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states of prompts behind the virtual tokens; the arguments are `read_hidden_states`'s."""
        if self.embeddings is not None:
            return read_behind(self.embeddings, model, tokens, read, positions=positions, mask=mask)
        assert self.states is not None
        behind, seen = seen_behind(tokens, self.count, positions, mask)
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.states):
            cache.update(keys.expand(len(tokens), -1, -1, -1), values.expand(len(tokens), -1, -1, -1), layer)
        return read_hidden_states(model, tokens, read, positions=behind, mask=seen, cache=cache)

    def as_peft_has_them(self) -> Tensor:
        """Return what is learned as `peft` writes it: (P, D), or of a prefix (P, layers * 2 * H * E)."""
        if self.embeddings is not None:
            return self.embeddings.detach()
        assert self.states is not None
        return self.states.detach().permute(3, 0, 1, 2, 4).flatten(1)

    def sizes(self) -> dict[str, int]:
        """Return the sizes that `peft` asks for."""
        if self.states is None:
            assert self.embeddings is not None
            return {"token_dim": self.embeddings.shape[1], "num_transformer_submodules": 1}
        layers, _, heads, _, width = self.states.shape
        return {
            "token_dim": heads * width,
            "num_transformer_submodules": 1,
            "num_layers": layers,
            "num_attention_heads": heads,
        }


def looked_up_before(model: PreTrainedModel) -> int:
    """Return how many tokens are looked up before a prompt, to have virtual ones' embeddings in their place."""
    virtual = getattr(model, MODULE, None)
    return virtual.count if isinstance(virtual, VirtualTokens) and virtual.embeddings is not None else 0


def reader_of(model: PreTrainedModel) -> Callable[..., Tensor] | None:
    """Return what reads hidden states of `model` behind its virtual tokens, or None if it has none."""
    virtual = getattr(model, MODULE, None)
    return virtual.read if isinstance(virtual, VirtualTokens) else None
