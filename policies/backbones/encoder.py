"""Encoders, which read a text as a whole and give it one vector: BERT and its like."""

from __future__ import annotations

from transformers import MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig

from heed.policies.backbones.backbone import Backbone, backbone_kind, register_backbone


@register_backbone
class Encoder(Backbone):
    """What stands before a token and what stands behind it both count, so a text has no likelihood."""

    auto_class = "AutoModel"
    adapter_task = "FEATURE_EXTRACTION"
    closes_prompts = True  # it was trained on closed texts
    gives_likelihoods = False
    description = "is an encoder"

    @classmethod
    def fits(cls, config: PretrainedConfig) -> bool:
        """Say whether a model reads its text in both directions, by its kind."""
        return (
            type(config) in MODEL_FOR_MASKED_LM_MAPPING
            and not config.is_encoder_decoder
            and not getattr(config, "is_decoder", False)
        )


def is_encoder(config: PretrainedConfig) -> bool:
    """Say whether a model reads its text in both directions, by its kind."""
    return issubclass(backbone_kind(config), Encoder)
