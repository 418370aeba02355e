"""Log-likelihoods of action texts under a causal language model.

score(a | prompt) is the log-probability of the action's tokens after the prompt, by default their mean: sums
favour short texts (TWOSOME, arXiv 2401.14151, section 4.2). Scoring actions rather than writing text goes back to
GLAM (arXiv 2302.02662).

`PackedScorer` forwards each prompt once, with all inner nodes of the actions' trie packed behind it; a node sees
the prompt and its own ancestors only. Leaves are read, never forwarded. `naive_scores` is the definition, one
forward per prompt and action: tests hold the first against the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heed.policies.hidden_states import read_hidden_states
from heed.policies.prompt import PADDING

Normalization = Literal["mean", "sum"]
"""How the log-probabilities of an action's tokens become one score."""


@dataclass(frozen=True, kw_only=True)
class ActionTrie:
    """The token sequences of all actions, merged where they begin alike.

    Context 0 is the prompt's last token; context k > 0 is inner node k - 1. Reading token `tokens[a][t]` at context
    `contexts[a][t]` gives the log-probability of the t-th token of action a.
    """

    node_tokens: tuple[int, ...]
    """The token of each inner node, K of them; a node stands behind its parent."""
    node_parents: tuple[int, ...]
    """The parent of each inner node: an inner node, or -1 for the prompt's last token."""
    contexts: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]

    @classmethod
    def build(cls, actions: Sequence[Sequence[int]]) -> ActionTrie:
        """Build the trie of `actions`, each a sequence of token ids.

        Raises:
            ValueError: if an action has no tokens, or two have the same.
        """
        nodes: dict[tuple[int, ...], int] = {}
        contexts = []
        for action in map(tuple, actions):
            if not action:
                raise ValueError("An action text has no tokens: the tokenizer drops all of its characters.")
            for length in range(1, len(action)):
                nodes.setdefault(action[:length], len(nodes))
            contexts.append(tuple(nodes[action[:t]] + 1 if t else 0 for t in range(len(action))))
        if len({tuple(action) for action in actions}) < len(actions):
            raise ValueError("Two action texts become the same tokens, so no score can tell them apart.")
        return cls(
            node_tokens=tuple(path[-1] for path in nodes),
            node_parents=tuple(nodes.get(path[:-1], -1) for path in nodes),
            contexts=tuple(contexts),
            tokens=tuple(tuple(action) for action in actions),
        )

    @property
    def node_depths(self) -> tuple[int, ...]:
        """How many tokens each inner node is behind the prompt's last token: 1 for the first of an action."""
        depths: list[int] = []
        for parent in self.node_parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    def ancestors(self) -> Tensor:
        """Return which nodes each inner node sees, itself included: bool, (K, K)."""
        size = len(self.node_tokens)
        seen = torch.eye(size, dtype=torch.bool)
        for node, parent in enumerate(self.node_parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


class PackedScorer(torch.nn.Module):
    """Scores all actions after a prompt with one forward.

    Args:
        trie: of the actions' tokens.
        normalization: `mean` or `sum` over an action's tokens.
    """

    node_tokens: Tensor
    node_depths: Tensor
    ancestors: Tensor
    flat_contexts: Tensor
    flat_tokens: Tensor
    flat_actions: Tensor
    divisors: Tensor

    def __init__(self, trie: ActionTrie, normalization: Normalization = "mean"):
        super().__init__()
        self.n_actions = len(trie.tokens)
        self.n_nodes = len(trie.node_tokens)
        lengths = [len(tokens) for tokens in trie.tokens]
        buffers = {
            "node_tokens": torch.tensor(trie.node_tokens, dtype=torch.long),
            "node_depths": torch.tensor(trie.node_depths, dtype=torch.long),
            "ancestors": trie.ancestors(),
            "flat_contexts": torch.tensor([c for path in trie.contexts for c in path]),
            "flat_tokens": torch.tensor([t for path in trie.tokens for t in path]),
            "flat_actions": torch.tensor([a for a, length in enumerate(lengths) for _ in range(length)]),
            "divisors": torch.tensor([n if normalization == "mean" else 1 for n in lengths]),
        }
        for name, tensor in buffers.items():
            # They follow from the action texts, so a checkpoint need not hold them.
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, model: PreTrainedModel, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Score every action after each prompt.

        Args:
            model: a causal language model with `sdpa` attention.
            prompts: token ids, (B, L), padded with -1 on the right.

        Returns:
            The hidden state of each prompt's last token, (B, D), and the scores, (B, A).
        """
        read = self._read(model, prompts)  # (B, 1 + K, D)
        log_probabilities = torch.log_softmax(token_logits(model, read).to(_at_least_float32(read)), dim=-1)
        token_scores = log_probabilities[:, self.flat_contexts, self.flat_tokens]  # (B, sum of T)
        scores = token_scores.new_zeros(len(prompts), self.n_actions)
        return read[:, 0], scores.index_add(1, self.flat_actions, token_scores) / self.divisors

    def _read(self, model: PreTrainedModel, prompts: Tensor) -> Tensor:
        """Return the hidden states of each prompt's last token and of the inner nodes behind it, (B, 1 + K, D)."""
        if self.n_nodes == 0:
            return last_hidden_state(model, prompts)[:, None]
        batch, length = prompts.shape
        lengths = (prompts != PADDING).sum(dim=1)  # (B,)
        nodes = self.node_tokens.expand(batch, -1)
        positions = torch.arange(length, device=prompts.device).expand(batch, -1)
        node_positions = lengths[:, None] - 1 + self.node_depths
        size = length + self.n_nodes
        mask = torch.zeros(batch, 1, size, size, dtype=torch.bool, device=prompts.device)
        mask[:, :, :length, :length] = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()
        mask[:, :, length:, :length] = (prompts != PADDING)[:, None, None, :]
        mask[:, :, length:, length:] = self.ancestors
        behind = torch.arange(length, size, device=prompts.device).expand(batch, -1)
        return read_hidden_states(
            model,
            torch.cat([prompts.clamp(min=0), nodes], dim=1),
            torch.cat([lengths[:, None] - 1, behind], dim=1),
            positions=torch.cat([positions, node_positions], dim=1),
            mask=mask,
        )


class NaiveScorer(torch.nn.Module):
    """Scores actions by the definition; for models on which the packed forward is not exact."""

    def __init__(self, trie: ActionTrie, normalization: Normalization = "mean"):
        super().__init__()
        self.actions = trie.tokens
        self.normalization: Normalization = normalization

    def forward(self, model: PreTrainedModel, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `PackedScorer.forward` returns."""
        scores = naive_scores(model, prompts, self.actions, self.normalization)
        return last_hidden_state(model, prompts), scores


def naive_scores(
    model: PreTrainedModel, prompts: Tensor, actions: Sequence[Sequence[int]], normalization: Normalization = "mean"
) -> Tensor:
    """Score every action after each prompt with one full forward for each pair: the definition.

    Args:
        model: a causal language model.
        prompts: token ids, (B, L), padded with -1 on the right.
        actions: A sequences of token ids.
        normalization: `mean` or `sum` over an action's tokens.

    Returns:
        The scores, (B, A).
    """
    rows = []
    for prompt in prompts:
        prompt = prompt[prompt != PADDING]
        row = []
        for action in actions:
            tokens = torch.cat([prompt, torch.tensor(action, dtype=prompt.dtype, device=prompt.device)])
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]  # (L + T, V)
            log_probabilities = torch.log_softmax(logits.to(_at_least_float32(logits)), dim=-1)
            picked = log_probabilities[len(prompt) - 1 : -1].gather(1, tokens[len(prompt) :, None])
            row.append(picked.mean() if normalization == "mean" else picked.sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def make_scorer(
    model: PreTrainedModel, trie: ActionTrie, normalization: Normalization, tolerance: float = 1e-3
) -> PackedScorer | NaiveScorer:
    """Return the packed scorer if it is exact for this model, else the naive one.

    Not every attention implementation heeds the packed mask (some ignore it in silence), so this tries it out
    on one short prompt and compares.
    """
    packed = PackedScorer(trie, normalization).to(model.device)
    vocabulary = int(model.config.get_text_config().vocab_size)
    prompts = torch.tensor([[1, 2, 3, 4, PADDING], [4, 3, PADDING, PADDING, PADDING]], device=model.device) % vocabulary
    prompts[0, 4] = prompts[1, 2:] = PADDING
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = naive_scores(model, prompts, trie.tokens, normalization)
            _, scores = packed(model, prompts)
        exact = bool(torch.allclose(scores, expected, atol=tolerance, rtol=tolerance))
    except (RuntimeError, ValueError, TypeError, IndexError):
        exact = False  # the model does not take such a mask or such positions
    finally:
        model.train(training)
    return packed if exact else NaiveScorer(trie, normalization)


def last_hidden_state(model: PreTrainedModel, prompts: Tensor) -> Tensor:
    """Return the hidden state of each prompt's last token, (B, D), for `prompts` (B, L) padded with -1."""
    lengths = (prompts != PADDING).sum(dim=1)
    # Behind right padding nothing is read, so a causal model needs no mask at all.
    return read_hidden_states(model, prompts.clamp(min=0), lengths[:, None] - 1)[:, 0]


def token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Apply the model's output embedding, and its soft cap where it has one (Gemma 2), to `hidden`."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
