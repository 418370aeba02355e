"""A language model's own opinion of what to do, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from heed.policies.backbones.backbone import backbone_of
from heed.policies.caches.batching import chunks_of_like_length
from heed.policies.finite import require_finite_scores
from heed.policies.heads.scoring import Normalization, make_scorer
from heed.policies.heads.trie import Tries
from heed.policies.models.language_model import LanguageModel
from heed.policies.prompts.layout import PADDING


def score_action_texts(
    language_model: LanguageModel,
    observations: Mapping[str, Sequence[str]],
    action_texts: Sequence[Sequence[str]],
    *,
    normalization: Normalization = "mean",
    max_prompt_tokens: int = 256,
) -> list[npt.NDArray[np.floating[Any]]]:
    """Score the actions that each observation admits; their number and their words may change from one to the next.

    Args:
        language_model: from `load_language_model`.
        observations: `instruction` and `observation`, each B strings.
        action_texts: for each of the B observations, the texts of its actions.
        normalization: of the scores, over an action's tokens.
        max_prompt_tokens: a longer prompt loses the end of its observation, with a warning.

    Returns:
        For each observation the scores of its actions, log-likelihoods normalised in that way.

    Raises:
        ValueError: if there are not as many lists of actions as observations, one is empty, two actions of one have
            the same tokens, or the model is an encoder.
        NonFiniteError: if a score is NaN or infinite.
    """
    backbone = backbone_of(language_model.model)
    if not backbone.gives_likelihoods:
        raise ValueError(
            f"{language_model.name} {backbone.description}: it gives texts no likelihood, so it has no opinion "
            "untrained."
        )
    room = language_model.action_room()
    rooms = None if room is None else [room.of(texts) for texts in action_texts]
    count = len(observations["instruction"])
    if count != len(action_texts):
        raise ValueError(f"There are {count} observations, but {len(action_texts)} lists of action texts.")
    prompts = torch.as_tensor(language_model.encoder(max_tokens=max_prompt_tokens).encode_words(observations, rooms))
    if not len(prompts):
        return []
    model = language_model.model
    tries = Tries([language_model.action_trie(tuple(texts), normalization) for texts in action_texts]).to(model.device)
    lengths = (prompts != PADDING).sum(dim=1).numpy()
    scorer = make_scorer(model, tries, normalization, longest=int(lengths.max()))
    order = np.argsort(lengths, kind="stable")
    scores: list[npt.NDArray[np.floating[Any]]] = [np.empty(0)] * len(prompts)
    with torch.no_grad():
        for rows in chunks_of_like_length(lengths[order] + tries.n_nodes, model.device):
            chunk = torch.from_numpy(order[rows])
            part = prompts[chunk, : int(lengths[chunk].max())].long().to(model.device)
            of_chunk = scorer(model, part, tries.rows(chunk.to(model.device)))[1]
            for row, index in enumerate(chunk.tolist()):
                of_prompt = of_chunk[row, : len(action_texts[index])]
                require_finite_scores(of_prompt, model)
                scores[index] = of_prompt.cpu().numpy()
    return scores
