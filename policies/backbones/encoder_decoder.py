"""Encoder-decoders, which read a prompt whole and begin anew: the action stands in the decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PretrainedConfig, PreTrainedModel

from heed.policies.backbones.backbone import Backbone, Read, register_backbone
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.prompts.padding import PADDING


@register_backbone
class EncoderDecoder(Backbone):
    """Two stacks of layers; T5 and its like."""

    auto_class = "AutoModelForSeq2SeqLM"
    adapter_task = "SEQ_2_SEQ_LM"
    closes_prompts = True  # its encoder was trained on closed texts
    actions_stand_behind = False
    scoring_methods: ClassVar[tuple[str, ...]] = ("encoder-decoder",)
    description = "has an encoder"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say whether there is an encoder before the decoder."""
        return bool(config.is_encoder_decoder)

    @property
    def reader(self) -> Any:
        """The decoder."""
        whole: Any = self.model
        return whole.get_decoder()

    @property
    def token_embedding(self) -> nn.Module:
        """The encoder's: T5's own is only where the encoder's and the decoder's get their weight from."""
        whole: Any = self.model
        embedding: nn.Module = whole.get_encoder().get_input_embeddings()
        return embedding

    @property
    def layers(self) -> nn.ModuleList:
        """Raise: the layers of encoder and decoder are two stacks."""
        raise self._no_single_stack()

    @property
    def most_written(self) -> int | None:
        """How many tokens the decoder reads; None for any number."""
        limit = getattr(self.model.config, "max_decoder_position_embeddings", None)
        return self.most_tokens if limit is None else int(limit)

    def refused_prompts(self, max_tokens: int, depth: int, before: int) -> str | None:
        """Say why the decoder has no positions for actions; prompts stand in the encoder."""
        written = self.most_written
        if written is None or 1 + depth <= written:
            return None
        return f"writes at most {written} tokens, fewer than the longest action has: shorten the action texts."

    def require_usable(self) -> None:
        """Refuse a model that does not say how its decoder begins."""
        decoder_start(self.model)

    def logits(self, prompt: Tensor, action: Tensor) -> Tensor:
        """Return what the decoder gives, with the prompt in the encoder."""
        start = torch.full((1,), decoder_start(self.model), device=prompt.device)
        given = torch.cat([start, action[:-1]])
        logits: Tensor = self.model(input_ids=prompt[None], decoder_input_ids=given[None], use_cache=False).logits[0]
        return logits

    def last_hidden_state(self, prompts: Tensor, read: Read) -> Tensor:
        """Return that of the decoder's first token."""
        return read_branches(self.model, prompts, _NO_NODES)[:, 0]


_NO_NODES = Tries([ActionTrie.build([[0]])])


def read_branches(model: PreTrainedModel, prompts: Tensor, tries: Tries) -> Tensor:
    """Return an encoder-decoder's hidden states at all contexts, (B, 1 + K, D).

    A mask over the trie would be wrong: T5's decoder takes the distance between tokens from where they stand in the
    row, not from position ids. So each branch of the trie is a row. Their common beginning, the decoder's first
    token, is computed once, and so are the keys and values of the encoder's states.
    """
    batch = len(prompts)
    real = prompts != PADDING
    whole: Any = model
    encoded = whole.get_encoder()(input_ids=prompts.clamp(min=0), attention_mask=real.long()).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    decoder = whole.get_decoder()

    def decode(tokens: Tensor, states: Tensor, seen: Tensor) -> Tensor:
        output = decoder(
            input_ids=tokens,
            encoder_hidden_states=states,
            encoder_attention_mask=seen.long(),
            past_key_values=cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    start = torch.full((batch, 1), decoder_start(model), device=prompts.device)
    first = decode(start, encoded, real)
    if tries.n_nodes == 0:
        return first
    branches = tries.branches.expand(batch, -1, -1)  # (B, R, U)
    rows = branches.shape[1]
    cache.batch_repeat_interleave(rows)
    behind = decode(
        branches.flatten(0, 1), encoded.repeat_interleave(rows, dim=0), real.repeat_interleave(rows, dim=0)
    )  # (B * R, U, D)
    places = tries.node_places.expand(batch, -1)
    by_prompt = behind.reshape(batch, -1, behind.shape[-1])  # (B, R * U, D)
    return torch.cat([first, by_prompt.gather(1, places[:, :, None].expand(-1, -1, behind.shape[-1]))], dim=1)


def decoder_start(model: PreTrainedModel) -> int:
    """Return the token with which the decoder of an encoder-decoder begins.

    Raises:
        ValueError: if the model does not say.
    """
    # Where a model keeps it has moved from one configuration to the other between versions of transformers.
    for config in (model.config, model.generation_config):
        start = getattr(config, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise ValueError("it does not say with which token its decoder begins: set decoder_start_token_id in config.json")
