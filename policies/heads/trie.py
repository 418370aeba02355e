"""Action texts as tries of tokens: what begins alike is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ActionTrie:
    """The token sequences of all actions, merged where they begin alike.

    Context 0 is the prompt's last token; context k > 0 is inner node k - 1. Reading token `tokens[a][t]` at context
    `contexts[a][t]` gives the log-probability of the t-th token of action a. A leaf is read, never a context.
    """

    paths: tuple[Tokens, ...]
    """The tokens from the prompt to each inner node, K of them; a node stands behind its parent."""
    contexts: tuple[tuple[int, ...], ...]
    tokens: tuple[Tokens, ...]

    @classmethod
    def build(cls, actions: Sequence[Sequence[int]], *, distinct: bool = True) -> ActionTrie:
        """Build the trie of `actions`, each a sequence of token ids.

        Args:
            actions: at least one.
            distinct: refuse actions that have the same tokens; otherwise they get the same score.

        Raises:
            ValueError: if there are no actions, an action has no tokens, or two that are to be distinct have the same.
        """
        nodes: dict[Tokens, int] = {}
        contexts = []
        if not actions:
            raise ValueError("There are no actions to choose among.")
        for action in map(tuple, actions):
            if not action:
                raise ValueError("An action text has no tokens: the tokenizer drops all of its characters.")
            for length in range(1, len(action)):
                nodes.setdefault(action[:length], len(nodes))
            contexts.append(tuple(nodes[action[:t]] + 1 if t else 0 for t in range(len(action))))
        if distinct and len({tuple(action) for action in actions}) < len(actions):
            raise ValueError("Two action texts become the same tokens, so no score can tell them apart.")
        return cls(paths=tuple(nodes), contexts=tuple(contexts), tokens=tuple(tuple(action) for action in actions))

    @property
    def node_tokens(self) -> Tokens:
        """The token of each inner node."""
        return tuple(path[-1] for path in self.paths)

    @property
    def node_depths(self) -> tuple[int, ...]:
        """How many tokens each inner node is behind the prompt's last token: 1 for the first of an action."""
        return tuple(len(path) for path in self.paths)

    @property
    def ancestors(self) -> tuple[tuple[bool, ...], ...]:
        """Which nodes each inner node sees, itself included."""
        return tuple(tuple(path[: len(other)] == other for other in self.paths) for path in self.paths)

    @property
    def branches(self) -> tuple[Tokens, ...]:
        """The paths that no other path goes on from; together they pass every inner node."""
        going_on = {path[:-1] for path in self.paths}
        return tuple(path for path in self.paths if path not in going_on)

    @property
    def siblings(self) -> tuple[Tokens, ...]:
        """The tokens that actions have at each context, 1 + K of them."""
        found: list[dict[int, None]] = [{} for _ in range(1 + len(self.paths))]
        for contexts, tokens in zip(self.contexts, self.tokens, strict=True):
            for context, token in zip(contexts, tokens, strict=True):
                found[context][token] = None
        return tuple(tuple(tokens) for tokens in found)


def close_prefixes(actions: Sequence[Sequence[int]], end: int | None) -> list[list[int]]:
    """Put the token `end` behind every action that another one goes on from.

    Where probability is shared among the tokens of a context only, "go" and "go north" need a token that says which.

    Raises:
        ValueError: if there is such an action, but no `end`.
    """
    beginnings = {tuple(action[:length]) for action in actions for length in range(1, len(action))}
    if end is None and any(tuple(action) in beginnings for action in actions):
        raise ValueError(
            "An action text is the beginning of another, and the tokenizer has no end token to tell them apart by: "
            "use normalization='mean'."
        )
    return [[*action, end] if end is not None and tuple(action) in beginnings else [*action] for action in actions]


class Tries(nn.Module):
    """Tries as tensors: one for all prompts (G = 1), or one for each prompt (G = B), padded to the largest.

    K inner nodes, A actions, T tokens of an action, S siblings, R branches of U tokens. Moves with its parent module;
    a checkpoint need not hold it, since it follows from the action texts.
    """

    node_tokens: Tensor
    """(G, K)"""
    node_depths: Tensor
    """(G, K)"""
    ancestors: Tensor
    """Which nodes a node sees, (G, K, K)."""
    contexts: Tensor
    """(G, A, T)"""
    tokens: Tensor
    """(G, A, T)"""
    lengths: Tensor
    """Tokens of each action, (G, A); 0 where there is none."""
    siblings: Tensor
    """The tokens at each context, (G, 1 + K, S), -1 where there are fewer."""
    branches: Tensor
    """The tokens of each branch, (G, R, U)."""
    node_places: Tensor
    """Where each node is among the branches' R * U tokens, (G, K)."""

    def __init__(self, tries: Sequence[ActionTrie]):
        super().__init__()
        self.count = len(tries)
        self.n_actions = max(len(trie.tokens) for trie in tries)
        self.n_nodes = max(len(trie.paths) for trie in tries)
        self.depth = max((len(path) for trie in tries for path in trie.paths), default=0)
        n_branches = max(len(trie.branches) for trie in tries)
        places = [
            [
                next(
                    row * self.depth + len(path) - 1
                    for row, branch in enumerate(trie.branches)
                    if branch[: len(path)] == path
                )
                for path in trie.paths
            ]
            for trie in tries
        ]
        longest = max(len(tokens) for trie in tries for tokens in trie.tokens)
        widest = max(len(tokens) for trie in tries for tokens in trie.siblings)
        k, a = self.n_nodes, self.n_actions
        buffers = {
            "node_tokens": _padded([trie.node_tokens for trie in tries], (k,), 0),
            "node_depths": _padded([trie.node_depths for trie in tries], (k,), 1),
            "ancestors": _padded([trie.ancestors for trie in tries], (k, k), 0).bool() | torch.eye(k, dtype=torch.bool),
            "contexts": _padded([trie.contexts for trie in tries], (a, longest), 0),
            "tokens": _padded([trie.tokens for trie in tries], (a, longest), 0),
            "lengths": _padded([[len(tokens) for tokens in trie.tokens] for trie in tries], (a,), 0),
            "siblings": _padded([trie.siblings for trie in tries], (1 + k, widest), -1),
            "branches": _padded([trie.branches for trie in tries], (n_branches, self.depth), 0),
            "node_places": _padded(places, (k,), 0),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)

    def rows(self, prompts: Tensor) -> Tries:
        """Return the tries of the prompts with the indices `prompts`."""
        if self.count == 1:
            return self
        buffers = {name: tensor[prompts] for name, tensor in self.named_buffers()}
        return self._of(buffers, len(prompts), self.n_actions, self.n_nodes, self.depth)

    @staticmethod
    def join(parts: Sequence[Tries]) -> Tries:
        """Return single tries as one for each prompt: what `Tries` makes of all of them at once, from their tensors."""
        if len(parts) == 1:
            return parts[0]
        n_actions, n_nodes, depth = (
            max(getattr(part, name) for part in parts) for name in ("n_actions", "n_nodes", "depth")
        )
        buffers = {}
        for name, first in parts[0].named_buffers():
            tensors = [getattr(part, name)[0] for part in parts]
            shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
            joined = torch.full((len(parts), *shape), _EMPTY.get(name, 0), dtype=first.dtype)
            for target, tensor in zip(joined, tensors, strict=True):
                target[tuple(slice(size) for size in tensor.shape)] = tensor
            buffers[name] = joined
        buffers["ancestors"] |= torch.eye(n_nodes, dtype=torch.bool)
        # Where a node stands among the branches follows from their common depth.
        places = buffers["node_places"]
        for target, part in zip(places, parts, strict=True):
            if part.n_nodes:
                own = part.node_places[0]
                target[: part.n_nodes] = own // part.depth * depth + own % part.depth
        return Tries._of(buffers, len(parts), n_actions, n_nodes, depth)

    @staticmethod
    def _of(buffers: dict[str, Tensor], count: int, n_actions: int, n_nodes: int, depth: int) -> Tries:
        made = Tries.__new__(Tries)
        nn.Module.__init__(made)
        made.count, made.n_actions, made.n_nodes, made.depth = count, n_actions, n_nodes, depth
        for name, tensor in buffers.items():
            made.register_buffer(name, tensor, persistent=False)
        return made


_EMPTY = {"node_depths": 1, "siblings": -1}
"""What stands in the tensors of a trie that is smaller than the others; 0 in the rest."""


def _padded(rows: Sequence[Sequence[object]], shape: tuple[int, ...], value: int) -> Tensor:
    """Return nested sequences of integers as a tensor (len(rows), *shape), with `value` where they are shorter."""
    padded = torch.full((len(rows), *shape), value, dtype=torch.long)
    for target, row in zip(padded, rows, strict=True):
        if len(shape) == 1:
            target[: len(row)] = torch.tensor(row, dtype=torch.long)
        else:
            for line, inner in zip(target, row, strict=False):
                assert isinstance(inner, tuple)
                line[: len(inner)] = torch.tensor(inner, dtype=torch.long)
    return padded
