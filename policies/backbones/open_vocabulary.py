"""`heed-words`: a model that reads words by their vectors, and not by the tokens of a vocabulary."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig

from heed.policies.backbones.backbone import Backbone, register_backbone
from heed.policies.words.model import WordsConfig


@register_backbone
class OpenVocabulary(Backbone):
    """Instruction, observation and actions are told apart, so an action does not stand behind a prompt."""

    auto_class = "AutoModel"
    adapter_task = "FEATURE_EXTRACTION"
    closes_prompts = False
    gives_likelihoods = False
    actions_stand_behind = False
    description = "knows words by their vectors"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say whether it is `heed-words`, of whatever size."""
        return isinstance(config, WordsConfig)

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer has; none has an embedding."""
        return int(self.model.config.vocab_size)

    @property
    def embedding_width(self) -> int:
        """How many numbers stand for a word in front of the first layer."""
        return self.width

    @property
    def width(self) -> int:
        """How many numbers the features have, D."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, of which the lowest comes first."""
        layers = self.model.layers
        assert isinstance(layers, nn.ModuleList)
        return layers
