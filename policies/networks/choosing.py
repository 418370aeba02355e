"""Which of the four networks a language model gets, by its kind and by the encoder of the prompts."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from heed.policies.backbones.backbone import backbone_of
from heed.policies.backbones.encoder import is_encoder
from heed.policies.heads.action_head import head_kind
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.networks.encoder_network import EncoderNetwork
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.networks.segment_network import SegmentNetwork
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.networks.words_network import WordsNetwork
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.segments import SegmentEncoder
from heed.policies.words.model import WordsModel


def make_network(
    language_model: LanguageModel,
    action_space: spaces.Space[Any],
    options: ModelOptions,
    *,
    encoder: PromptEncoder,
) -> PromptNetwork:
    """Return the network of a language model; arguments as of `LanguageNetwork`.

    Raises:
        ValueError: if the head, the actions and the model do not go together.
    """
    _require_listed_actions(action_space, options.head, encoder)
    if isinstance(encoder, SegmentEncoder):
        return SegmentNetwork(language_model, action_space, options, encoder=encoder)
    if isinstance(language_model.model, WordsModel):
        return WordsNetwork(language_model, action_space, options, encoder=encoder)
    kind = LanguageNetwork if backbone_of(language_model.model).gives_likelihoods else EncoderNetwork
    return kind(language_model, action_space, options, encoder=encoder)


def reads_segments(language_model: LanguageModel, options: ModelOptions, segments: bool | None) -> bool:
    """Say whether a policy with these options processes segments: wherever it can, unless `segments` decides.

    Raises:
        LanguageModelError: if a model that reads nothing else is not to.
    """
    backbone = backbone_of(language_model.model)
    if not backbone.trains and segments is False:
        raise LanguageModelError(
            f"{language_model.name} is a frozen sentence encoder, which reads segments and nothing else: leave "
            "segments=False out."
        )
    if segments is not None:
        return segments
    return is_encoder(language_model.model.config) and options.train_layers == 0 and options.adapter is None


def _require_listed_actions(action_space: spaces.Space[Any], head: str, encoder: PromptEncoder) -> None:
    """Refuse a head that cannot choose among changing actions, and prompts that do not list them.

    Raises:
        ValueError: if the head is not `score`, or the prompts do not list the actions.
    """
    changing = getattr(action_space, "listed_in_observations", False)
    if not changing and not encoder.layout.choices:
        return
    if not head_kind(head).reads_texts:
        raise ValueError(
            f"head={head!r} gives a number for each action of a list that stays the same, but here the actions "
            "change from state to state. Use head='score', which reads their texts."
        )
    if not encoder.layout.choices:
        raise ValueError(
            f"The action space is {action_space}, but the prompts' encoder has room for no "
            "actions: environments whose actions change have ChangingActions(n) as "
            "action space, list `actions` in each observation, and are wrapped in a PromptVecEnv."
        )
