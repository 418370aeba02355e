"""A language model that nobody trained, as a player: it takes the action whose text it finds the likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from heed.envs.contract import ChangingActions, TextActions, action_texts_of
from heed.envs.demonstrations.demonstrate import Choose, Words
from heed.policies.backbones.precision import decided
from heed.policies.modalities.modality import modalities_of
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.networks.choosing import make_network
from heed.policies.prompts.prompt import PromptEncoder
from heed.policies.prompts.template import Chat, PromptTemplate, TemplateError

SYSTEM = "You act in a world, step by step. Answer with the next action and nothing else."
"""What the system says to a model with a chat template."""

LISTED = "Possible actions: {actions}\n"
"""Stands before the rest where the actions are always the same."""

MESSAGE = "Instruction: {instruction}\nObservation: {observation}"

MAX_PROMPT_TOKENS = 1024


def likeliest(language_model: LanguageModel, env: gymnasium.Env[Any, Any]) -> Choose:
    """Let an untrained language model choose the action of the greatest mean log-likelihood of its tokens.

    A model with a chat template is asked in its form. The actions are named first where they stay the same.

    Args:
        language_model: a causal or encoder-decoder one, which is frozen.
        env: whose actions it chooses.

    Raises:
        TypeError: if the model gives texts no likelihood, or the actions have no texts.
    """
    if not language_model.backbone.gives_likelihoods:
        raise TypeError(
            f"{language_model.name} {language_model.backbone.description}: it gives texts no likelihood, so it cannot "
            "choose zero-shot. Give a causal language model, such as smollm2."
        )
    texts = action_texts_of(env)
    changing = isinstance(env.action_space, ChangingActions)
    if not changing and (texts is None or not isinstance(env.action_space, spaces.Discrete)):
        raise TypeError("A language model can only choose zero-shot among actions that have texts.")
    assert isinstance(env.observation_space, spaces.Dict)
    encoder = _encoder(language_model, () if changing else tuple(texts or ()), env)
    options = ModelOptions(
        train_layers=0,  # so each prompt is read once, and prefixes are kept
        precision=decided(language_model.model, "auto", language_model.model.device),
    )
    action_space = env.action_space if texts is None or changing else TextActions(texts)
    network = make_network(language_model, action_space, options, encoder=encoder)
    network.train(False)

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
        prompts = torch.as_tensor(encoder(words), device=language_model.model.device)
        with torch.no_grad():
            scores = network(prompts)[1]
        assert scores is not None
        actions: npt.NDArray[np.int64] = scores.argmax(dim=1).cpu().numpy()
        return actions

    return choose


def _encoder(language_model: LanguageModel, texts: Sequence[str], env: gymnasium.Env[Any, Any]) -> PromptEncoder:
    assert isinstance(env.observation_space, spaces.Dict)
    listed = LISTED.replace("{actions}", ", ".join(texts).replace("{", "{{").replace("}", "}}")) if texts else ""
    plain = PromptTemplate(f"{listed}{MESSAGE}\nAction:")
    modalities = modalities_of(env.observation_space, env.action_space, words_only=True)
    limit = language_model.backbone.most_tokens
    most = MAX_PROMPT_TOKENS if limit is None else min(MAX_PROMPT_TOKENS, limit // 2)
    if getattr(language_model.tokenizer, "chat_template", None) is None:
        return language_model.encoder(template=plain, max_tokens=most, modalities=modalities)
    for system in (SYSTEM, None):  # some chat templates take no system's message
        try:
            chat = Chat(system=system, message=f"{listed}{MESSAGE}")
            return language_model.encoder(template=chat, max_tokens=most, modalities=modalities)
        except TemplateError:
            continue
    return language_model.encoder(template=plain, max_tokens=most, modalities=modalities)
