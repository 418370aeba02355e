"""The network that both policies share: prompts in, features and action scores out."""

from __future__ import annotations

from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from heed.policies.language_model import LanguageModel
from heed.policies.memory import Reading, ReadingMemory
from heed.policies.prompt import PADDING
from heed.policies.scoring import ActionTrie, Normalization, last_hidden_state, make_scorer

Head = Literal["score", "linear"]
"""How actions come out of a language model: by the likelihood of their texts, or by a linear layer."""


MAX_CHUNKS, LEAST_CHUNK = 8, 32
"""A batch is read in at most so many chunks, each of at least so many prompts."""


class LanguageNetwork(nn.Module):
    """A language model that reads prompts, each different one once.

    Args:
        language_model: is used as it is, not copied.
        action_space: for `head="score"` its `texts` name the actions.
        head: `score` or `linear`; with `linear` there are no scores, only features.
        normalization: of the scores, `mean` or `sum` over an action's tokens.

    Raises:
        ValueError: if `head="score"` and the actions have no texts.
    """

    def __init__(
        self, language_model: LanguageModel, action_space: spaces.Space[Any], head: Head, normalization: Normalization
    ):
        super().__init__()
        self.model = language_model.model
        self.features_dim = int(self.model.config.get_text_config().hidden_size)
        self.memory: ReadingMemory | None = ReadingMemory(self.model)
        """Used in evaluation mode without gradients, as in rollouts; None to compute every reading anew."""
        self.scorer = None
        if head == "score":
            texts = getattr(action_space, "texts", None)
            if texts is None:
                raise ValueError(
                    f"head='score' chooses among actions that have names, but the action space is {action_space}. "
                    "Use head='linear', or an environment with Discrete actions and `action_texts`."
                )
            trie = ActionTrie.build(language_model.action_tokens(texts))
            self.scorer = make_scorer(self.model, trie, normalization)

    def train(self, mode: bool = True) -> LanguageNetwork:
        """Set the mode of all but the language model, which stays in evaluation.

        Dropout would make the probabilities of a rollout differ from those of the update, which PPO reads as a
        change of policy.
        """
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read prompts.

        Args:
            observations: token ids, (B, L), padded with -1 on the right.

        Returns:
            The hidden state of each prompt's last token, (B, D), and the action scores, (B, A), with
            `head="score"`.
        """
        prompts, inverse = unique_prompts(observations.long())
        if self.memory is None or self.training or torch.is_grad_enabled():
            features, scores = self._read(prompts)
        else:
            features, scores = self.memory.read(prompts, self._read)
        return features[inverse], None if scores is None else scores[inverse]

    def _read(self, prompts: Tensor) -> Reading:
        """Read different prompts, (B, L), the shortest first."""
        chunks = chunks_by_length(prompts)
        if self.scorer is None:
            return torch.cat([last_hidden_state(self.model, chunk) for chunk in chunks]), None
        read = [self.scorer(self.model, chunk) for chunk in chunks]
        return torch.cat([features for features, _ in read]), torch.cat([scores for _, scores in read])


def unique_prompts(prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different rows of `prompts` (B, L), the shortest first, and for each row where it is among them."""
    unique, inverse = torch.unique(prompts[:, : _longest(prompts)], dim=0, return_inverse=True)
    order = (unique != PADDING).sum(dim=1).argsort(stable=True)
    return unique[order], order.argsort()[inverse]


def chunks_by_length(prompts: Tensor) -> list[Tensor]:
    """Split `prompts` (B, L), the shortest first, into equal chunks, each cut to its own longest prompt.

    A batch is padded to its longest prompt, and most are much shorter; chunks waste less on padding.
    """
    count = max(1, min(MAX_CHUNKS, len(prompts) // LEAST_CHUNK))
    return [chunk[:, : _longest(chunk)] for chunk in prompts.tensor_split(count)]


def _longest(prompts: Tensor) -> int:
    return max(1, int((prompts != PADDING).sum(dim=1).max()))
