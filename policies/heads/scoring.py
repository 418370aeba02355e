"""Log-likelihoods of action texts under a language model.

score(a | prompt) is the log-probability of the action's tokens after the prompt, by default their mean: sums
favour short texts (TWOSOME, arXiv 2401.14151, section 4.2). Scoring actions rather than writing text goes back to
GLAM (arXiv 2302.02662).

All ways to score do the same: they compute hidden states at the contexts of the actions' trie, that is at the prompt's
last token and at the inner nodes, and read there what each token's probability is. They differ in how they get the
states:

- *packed*: one forward over the prompt with the nodes behind it, where a node sees the prompt and its own ancestors;
- *cached*: the prompt first, its keys and values kept, and the nodes after it. The prompt needs no mask then, which
  pays for long ones;
- *encoder-decoder*: the prompt goes into the encoder, once; each branch of the trie is a row of the decoder, and all
  rows share the encoder's keys and values;
- *naive*: one forward for each prompt and action. It is the definition, and what a model gets for which no other way
  is exact.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from heed.policies.backbones.activation_checkpointing import checkpointed, is_checkpointed
from heed.policies.backbones.backbone import Read, backbone_of
from heed.policies.backbones.encoder_decoder import read_branches
from heed.policies.backbones.exactness import ACTIONS, Scores, trials_of
from heed.policies.backbones.hidden_states import read_hidden_states
from heed.policies.heads.trie import Tries
from heed.policies.prompts.layout import PADDING

Normalization = Literal["mean", "sum", "constrained"]
"""How the log-probabilities of an action's tokens become one score: their mean; their sum; or their sum with each
token's probability shared among the tokens that actions have there, which makes the scores log-probabilities of the
actions themselves."""

ScoringMethod = Literal["packed", "cached", "encoder-decoder", "naive"]

CACHED_FROM = 400
"""Prompt tokens from which the cached way is the faster one, where both are exact (`tools/benchmark/scoring.py`)."""

LOGITS_AT_ONCE = 2**22
"""Logits that are computed at a time, to bound memory."""


class ActionScorer:
    """Scores actions after prompts.

    Args:
        methods: those to use; with both `packed` and `cached`, the length of the prompts decides.
        normalization: of an action's tokens.
    """

    def __init__(self, methods: Sequence[ScoringMethod] = ("packed", "cached"), normalization: Normalization = "mean"):
        self.methods: tuple[ScoringMethod, ...] = tuple(methods)
        self.normalization: Normalization = normalization

    def __call__(
        self, model: PreTrainedModel, prompts: Tensor, tries: Tries, *, read: Read = read_hidden_states
    ) -> tuple[Tensor, Tensor]:
        """Score every action after each prompt.

        Args:
            model: a language model.
            prompts: token ids, (B, L), padded with -1 on the right.
            tries: of the actions' tokens, one for all prompts or one for each.
            read: how to read hidden states.

        Returns:
            The hidden state of the first context, (B, D): the prompt's last token, or the decoder's first. And the
            scores, (B, A), which are -inf where a prompt has fewer than A actions.
        """
        way = self.method_for(model, prompts, tries)
        if way == "naive":
            return last_hidden_state(model, prompts), self._naive(model, prompts, tries)
        if way == "encoder-decoder":
            hidden = read_branches(model, prompts, tries)
        elif way == "cached":
            hidden = read_cached(model, prompts, tries, read=read)
        else:
            hidden = read(model, **vars(pack(prompts, tries)))
        return hidden[:, 0], score_contexts(model, hidden, tries, self.normalization)

    def method_for(self, model: PreTrainedModel, prompts: Tensor, tries: Tries) -> ScoringMethod:
        """Return the way in which such prompts are scored."""
        length = prompts.shape[1]
        window = backbone_of(model).window
        if window is not None and length + tries.n_nodes > window:
            return "naive"  # a mask of ours would not know the window, and where nodes stand may count for it
        if self.methods == ("packed", "cached"):
            return "packed" if length < CACHED_FROM or tries.n_nodes == 0 else "cached"
        return self.methods[0]

    def _naive(self, model: PreTrainedModel, prompts: Tensor, tries: Tries) -> Tensor:
        groups = range(len(prompts)) if tries.count > 1 else [0] * len(prompts)
        rows = []
        for row, group in enumerate(groups):
            lengths = tries.lengths[group].tolist()
            actions = [tries.tokens[group, a, :n].tolist() for a, n in enumerate(lengths) if n]
            scores = naive_scores(model, prompts[row : row + 1], actions, self.normalization)[0]
            rows.append(torch.nn.functional.pad(scores, (0, tries.n_actions - len(actions)), value=-torch.inf))
        return torch.stack(rows)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Prompts with the inner nodes of tries behind them, as `read_hidden_states` takes them."""

    tokens: Tensor
    """Token ids, (B, L + K)."""
    read: Tensor
    """Where each row is read: at the prompt's last token and at the nodes, (B, 1 + K)."""
    positions: Tensor | None
    """Position ids, (B, L + K)."""
    mask: Tensor | None
    """What sees what, bool, (B, 1, L + K, P + L + K)."""


def pack(prompts: Tensor, tries: Tries, *, starts: Tensor | None = None, cached: int = 0) -> Packed:
    """Put the inner nodes of `tries` behind prompts.

    Args:
        prompts: token ids, (B, L), padded with -1 on the right.
        tries: one for all prompts or one for each.
        starts: how many tokens stand before each prompt in a cache, (B,).
        cached: the columns P of that cache, of which row b uses the first starts[b].
    """
    batch, length = prompts.shape
    device, nodes = prompts.device, tries.n_nodes
    real = prompts != PADDING
    lengths = real.sum(dim=1)[:, None]
    places = torch.arange(length + nodes, device=device)
    if nodes == 0 and starts is None:
        # Behind right padding nothing is read, so a causal model needs no mask at all.
        return Packed(tokens=prompts.clamp(min=0), read=lengths - 1, positions=None, mask=None)
    before = torch.zeros_like(lengths) if starts is None else starts[:, None]
    positions = torch.cat(
        [
            before + places[:length],
            before + lengths - 1 + tries.node_depths.expand(batch, -1),
        ],
        dim=1,
    )
    mask = torch.zeros(batch, 1, length + nodes, cached + length + nodes, dtype=torch.bool, device=device)
    if starts is not None:
        mask[..., :cached] = (torch.arange(cached, device=device) < before)[:, None, None]
    mask[:, :, :length, cached : cached + length] = places[:length] <= places[:length, None]
    mask[:, :, length:, cached : cached + length] = real[:, None, None]
    mask[:, 0, length:, cached + length :] = tries.ancestors
    return Packed(
        tokens=torch.cat([prompts.clamp(min=0), tries.node_tokens.expand(batch, -1)], dim=1),
        read=torch.cat([lengths - 1, places[length:].expand(batch, -1)], dim=1),
        positions=positions,
        mask=mask,
    )


def read_cached(model: PreTrainedModel, prompts: Tensor, tries: Tries, *, read: Read = read_hidden_states) -> Tensor:
    """Return the hidden states at all contexts, (B, 1 + K, D): first the prompt's, then the nodes'."""
    batch = len(prompts)
    real = prompts != PADDING
    lengths = real.sum(dim=1)[:, None]
    cache = DynamicCache()
    last = read(model, prompts.clamp(min=0), lengths - 1, cache=cache)
    if tries.n_nodes == 0:
        return last
    seen = torch.cat(
        [
            real[:, None].expand(-1, tries.n_nodes, -1),
            tries.ancestors.expand(batch, -1, -1),
        ],
        dim=2,
    )
    nodes = read(
        model,
        tries.node_tokens.expand(batch, -1),
        torch.arange(tries.n_nodes, device=prompts.device).expand(batch, -1),
        positions=lengths - 1 + tries.node_depths,
        mask=seen[:, None],
        cache=cache,
    )
    return torch.cat([last, nodes], dim=1)


def score_contexts(model: PreTrainedModel, hidden: Tensor, tries: Tries, normalization: Normalization) -> Tensor:
    """Return the scores, (B, A), given the hidden states at all contexts, (B, 1 + K, D)."""
    batch, contexts = hidden.shape[:2]
    lengths = tries.lengths  # (G, A)
    real = torch.arange(tries.tokens.shape[2], device=hidden.device) < lengths[:, :, None]
    # A vocabulary is wide: the logits of all contexts at once would be the largest thing in memory.
    vocabulary = int(model.config.get_text_config().vocab_size)
    at_once = max(1, LOGITS_AT_ONCE // (batch * vocabulary))
    # And for the gradient they would all be kept.
    compute = functools.partial(checkpointed, _log_probabilities) if is_checkpointed(model) else _log_probabilities
    log_probabilities = hidden.new_zeros(batch, *tries.tokens.shape[1:], dtype=_at_least_float32(hidden))
    for first in range(0, contexts, at_once):
        here = slice(first, first + at_once)
        inside = real & (tries.contexts >= first) & (tries.contexts < first + at_once)
        part = compute(model, hidden[:, here], tries, here, normalization)
        log_probabilities = log_probabilities + part.masked_fill(~inside, 0.0)
    scores = log_probabilities.sum(dim=2)
    if normalization == "mean":
        scores = scores / lengths.clamp(min=1)
    return scores.masked_fill(lengths == 0, -torch.inf)


def _log_probabilities(
    model: PreTrainedModel, hidden: Tensor, tries: Tries, here: slice, normalization: Normalization
) -> Tensor:
    """Return the log-probability of each action's tokens, (B, A, T), right for those whose context is `here`."""
    logits = token_logits(model, hidden)
    logits = logits.to(_at_least_float32(logits))  # (B, C, V)
    batch = len(logits)
    if normalization == "constrained":
        siblings = tries.siblings[:, here].expand(batch, -1, -1)
        shares = logits.gather(2, siblings.clamp(min=0)).masked_fill(siblings < 0, -torch.inf)
        # A context of a trie smaller than the largest has no siblings at all, and is never read.
        totals = shares.masked_fill((siblings < 0).all(dim=2, keepdim=True), 0.0).logsumexp(dim=2)
    else:
        totals = logits.logsumexp(dim=2)  # (B, C)
    contexts = (tries.contexts - here.start).clamp(0, logits.shape[1] - 1).expand(batch, -1, -1)  # (B, A, T)
    rows = torch.arange(batch, device=logits.device)[:, None, None]
    return logits[rows, contexts, tries.tokens.expand(batch, -1, -1)] - totals[rows, contexts]


def naive_scores(
    model: PreTrainedModel, prompts: Tensor, actions: Sequence[Sequence[int]], normalization: Normalization = "mean"
) -> Tensor:
    """Score every action after each prompt with one full forward for each pair: the definition.

    Args:
        model: a language model.
        prompts: token ids, (B, L), padded with -1 on the right.
        actions: A sequences of token ids.
        normalization: of an action's tokens.

    Returns:
        The scores, (B, A).
    """
    rows = []
    for prompt in prompts:
        prompt = prompt[prompt != PADDING]
        row = []
        for action in actions:
            logits = backbone_of(model).logits(
                prompt, torch.tensor(action, dtype=prompt.dtype, device=prompt.device)
            )  # (T, V)
            logits = logits.to(_at_least_float32(logits))
            if normalization == "constrained":
                for t, line in enumerate(logits):
                    elsewhere = {other[t] for other in actions if len(other) > t and other[:t] == action[:t]}
                    barred = [token for token in range(len(line)) if token not in elsewhere]
                    logits = logits.index_put(
                        (torch.tensor(t), torch.tensor(barred)), torch.tensor(-torch.inf, dtype=logits.dtype)
                    )
            picked = torch.log_softmax(logits, dim=-1)[torch.arange(len(action)), torch.tensor(action)]
            row.append(picked.mean() if normalization == "mean" else picked.sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def make_scorer(
    model: PreTrainedModel, tries: Tries, normalization: Normalization, *, longest: int = 64
) -> ActionScorer:
    """Return a scorer whose ways are exact for this model.

    Not every attention implementation heeds a mask of ours (some ignore it in silence), and not every architecture
    turns hidden states into logits by its output embedding alone. So each way is tried out and compared with the
    definition (`heed.policies.backbones.exactness`).

    Args:
        model: a language model.
        tries: of the actions' tokens.
        normalization: of the scores.
        longest: how many tokens the prompts have at the most.
    """
    candidates: Any = backbone_of(model).scoring_methods
    exact = exact_methods(model, candidates, normalization, longest=longest, n_nodes=tries.n_nodes)
    if not exact:
        warnings.warn(
            f"{type(model).__name__} with {model.config._attn_implementation} attention scores actions exactly only "
            "one by one, which is slow. Load it with attn_implementation='sdpa' if it can.",
            stacklevel=2,
        )
    return ActionScorer(exact or ["naive"], normalization)


def exact_methods(
    model: PreTrainedModel,
    candidates: Sequence[ScoringMethod],
    normalization: Normalization = "mean",
    *,
    longest: int,
    n_nodes: int = 0,
) -> list[ScoringMethod]:
    """Return those of `candidates` that give what the definition gives; the other arguments are `make_scorer`'s."""
    positions = backbone_of(model).most_tokens
    longest += n_nodes  # they stand behind the prompt
    if positions is not None:
        longest = max(1, min(longest, positions - max(map(len, ACTIONS))))

    def scores_by(way: ScoringMethod) -> Scores:
        return lambda model, prompts, tries: ActionScorer((way,), normalization)(model, prompts, tries)[1]

    with trials_of(model, scores_by("naive"), longest, backbone_of(model).window) as trials:
        return [way for way in candidates if all(trial.accepts(scores_by(way)) for trial in trials)]


def last_hidden_state(model: PreTrainedModel, prompts: Tensor, *, read: Read = read_hidden_states) -> Tensor:
    """Return the hidden state that follows each prompt, (B, D), for `prompts` (B, L) padded with -1."""
    return backbone_of(model).last_hidden_state(prompts, read)


def token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Apply the model's output embedding to `hidden`, as the model itself does."""
    if getattr(model.config, "scale_decoder_outputs", False):  # T5 with tied embeddings
        hidden = hidden * model.config.d_model**-0.5
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)  # Gemma 2
    return torch.tanh(logits / cap) * cap if cap else logits


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
