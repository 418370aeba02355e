"""Late fusion: vectors of modalities are added to the hidden state, and to the scores of actions.

Linear heads and values read the sum of hidden state and vectors. Action scores are log-likelihoods of texts, which have
no place for a vector that is added late. They get the inner product of that vector with each action's text: the mean of
its tokens' input embeddings, normalised to mean 0 and variance 1 over D, divided by the square root of D.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from heed.policies.heads.trie import Tries
from heed.policies.modalities.modality import Enters, Modality


class Embedders(nn.Module):
    """The networks of modalities, by key.

    Args:
        modalities: that enter late or in the sequence.
        width: of the vectors, D.
    """

    def __init__(self, modalities: Iterable[Modality], width: int):
        super().__init__()
        self.modalities = tuple(modalities)
        self.networks = nn.ModuleDict()
        for modality in self.modalities:
            self.networks[modality.key] = modality.embedder(width)

    @classmethod
    def of(cls, modalities: Iterable[Modality], enters: Enters, width: int) -> Embedders | None:
        """Return those of the modalities that enter there; None if none does."""
        chosen = [modality for modality in modalities if modality.enters == enters]
        return cls(chosen, width) if chosen else None

    def forward(self, packed: Mapping[str, Tensor]) -> Tensor:
        """Return the vectors of all modalities one behind the other, (B, N, D), given each one's columns, (B, C)."""
        vectors = [self.networks[one.key](one.unpack(packed[one.key])) for one in self.modalities]
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)


def text_vectors(model: PreTrainedModel, tries: Tries) -> Tensor:
    """Return a vector of each action's text, (G, A, D), with mean 0 and variance 1 over D; 0 where there is none."""
    embedding = model.get_input_embeddings()
    assert embedding is not None
    tokens: Tensor = embedding(tries.tokens)  # (G, A, T, D)
    real = torch.arange(tries.tokens.shape[2], device=tokens.device) < tries.lengths[:, :, None]
    mean = (tokens.float() * real[..., None]).sum(dim=2) / tries.lengths.clamp(min=1)[:, :, None]
    return functional.layer_norm(mean, mean.shape[-1:]) * (tries.lengths > 0)[:, :, None]


def action_bias(vectors: Tensor, texts: Tensor) -> Tensor:
    """Return how much vectors (B, D) speak for each action, (B, A), given vectors of the texts, (1 or B, A, D).

    Where embeddings have another width than hidden states, as ELECTRA's, the numbers that both have count.
    """
    width = min(vectors.shape[1], texts.shape[2])
    products: Tensor = (texts[..., :width] * vectors[:, None, :width]).sum(dim=2) / width**0.5
    return products
