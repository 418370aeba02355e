"""Causal language models, which go on from what they read."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from transformers import PretrainedConfig

from heed.policies.backbones.backbone import Backbone, Read, register_backbone
from heed.policies.prompts.padding import PADDING


@register_backbone
class Causal(Backbone):
    """One stack of layers, each of whose tokens sees those before it."""

    auto_class = "AutoModelForCausalLM"
    adapter_task = "CAUSAL_LM"
    closes_prompts = False  # behind an end token no causal model expects an action
    scoring_methods: ClassVar[tuple[str, ...]] = ("packed", "cached")
    keeps_prefixes = True
    has_room_before = True
    description = "is causal"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say yes: what is of no other kind is causal, or `require_usable` refuses it."""
        return True

    def require_usable(self) -> None:
        """Refuse a model of which what comes later in a text changes the output before it.

        Raises:
            ValueError: if it does, or the outputs are no numbers.
        """
        embedding = self.model.get_input_embeddings()
        vocabulary = embedding.num_embeddings if isinstance(embedding, torch.nn.Embedding) else 6
        with torch.no_grad():
            first, second = (
                self.model(torch.tensor([tokens], device=self.model.device) % vocabulary).logits[0, :3]
                for tokens in ([1, 2, 3, 4], [1, 2, 3, 5])
            )
        if not bool(torch.isfinite(first).all()):
            raise ValueError("its outputs for a text of four tokens are NaN or infinite, though its weights are not")
        if not torch.allclose(first, second, atol=1e-3, rtol=1e-3):
            raise ValueError(
                "it reads its text in both directions, so it gives words no likelihood, and it is no encoder that "
                "fills gaps: give a causal, an encoder-decoder or such an encoder language model"
            )

    def logits(self, prompt: Tensor, action: Tensor) -> Tensor:
        """Return what the model gives at the prompt's last token and at the action's but the last."""
        tokens = torch.cat([prompt, action[:-1]])  # the last token is read, and nothing behind it
        logits: Tensor = self.model(input_ids=tokens[None], use_cache=False).logits[0]
        return logits[len(prompt) - 1 :]

    def last_hidden_state(self, prompts: Tensor, read: Read) -> Tensor:
        """Return that of each prompt's last token."""
        lengths = (prompts != PADDING).sum(dim=1)[:, None]
        # Behind right padding nothing is read, so a causal model needs no mask at all.
        return read(self.model, tokens=prompts.clamp(min=0), read=lengths - 1, positions=None, mask=None)[:, 0]
