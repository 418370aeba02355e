"""A kind of language model that a user might add: a recurrent one, whose text has no attention to mask."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from heed.policies.backbones.backbone import register_backbone
from heed.policies.backbones.causal import Causal


class RecurrentConfig(PretrainedConfig):
    model_type = "heed-test-recurrent"

    def __init__(self, vocab_size: int = 64, hidden_size: int = 16, **more: Any):
        super().__init__(**more)
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, 1


class Recurrent(PreTrainedModel):
    """A GRU over token embeddings."""

    config_class = RecurrentConfig
    base_model_prefix = "reader"

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.reader = _Reader(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.reader.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.head(self.reader(input_ids).last_hidden_state))


class _Reader(nn.Module):
    def __init__(self, config: RecurrentConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)])

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        hidden: Tensor = self.embedding(input_ids)
        for layer in self.layers:
            hidden, _state = layer(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


@register_backbone
class RecurrentBackbone(Causal):
    """Nodes of a trie cannot stand behind a prompt side by side: each action is read by itself."""

    scoring_methods = ()
    keeps_prefixes = False
    has_room_before = False
    description = "is recurrent"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        return isinstance(config, RecurrentConfig)
