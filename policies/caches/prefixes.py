"""Keys and values of the prompts read last, so that a prompt that goes on from one of them is not read anew.

With a history in the prompt, each step of an episode repeats the prompt of the step before and adds to it. What is
common to both is taken from a table of keys and values; only what is new goes through the language model, together
with the nodes of the actions' trie. A causal model's keys and values depend on nothing behind them, so this is exact.

Of a model whose lower layers are frozen, these alone are read so: what prompts begin with, such as a system prompt and
an instruction, goes through them once, whatever the layers above learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from heed.policies.backbones.exactness import trials_of
from heed.policies.backbones.hidden_states import (
    computes_last_layer_in_part,
    read_hidden_states,
    read_lower_states,
)
from heed.policies.caches.batching import Inputs, chunks_of_like_length
from heed.policies.caches.weights_watch import WeightsWatch
from heed.policies.heads.scoring import last_hidden_state, pack
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.prompts.layout import PADDING

ENOUGH = 0.4
"""From this share of tokens in common with the prompts before, keys and values are worth keeping. Where many histories
are cut at once, little is in common for one call and much again in the next: one poor call is borne."""

PAUSE = 8
"""Where prompts have too little in common, as without a history, they are compared only every so many times."""


class PrefixMemory:
    """Reads prompts, each from where it differs from those read last.

    Args:
        model: a causal language model without a sliding window.
        tries: of the actions, the same for all prompts.
        max_bytes: what the table of keys and values may take up.
        watch: of the model, if somebody else looks at its weights as well.
        layers: read only so many of the lowest layers (`read_lower`); None for all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tries: Tries,
        max_bytes: int,
        watch: WeightsWatch | None = None,
        *,
        layers: int | None = None,
    ):
        self.model = model
        self.tries = tries
        self.max_bytes = max_bytes
        self._watch = watch or WeightsWatch(model)
        self._changes = 0
        self._calls = 0
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._layers = layers
        numbers = 2 * (layers or config.num_hidden_layers) * heads * width
        numbers += 0 if layers is None else config.hidden_size  # the states that these layers give
        self._token_bytes = numbers * model.dtype.itemsize
        self.clear_cache()

    def clear_cache(self) -> None:
        """Empty the table."""
        self._tokens = np.full((0, 0), PADDING, dtype=np.int64)  # of the prompt in each slot, (slots, columns)
        self._filled = np.zeros(0, dtype=bool)  # whether a slot has keys and values, not tokens only
        self._used = np.zeros(0, dtype=np.int64)  # the call that used a slot last
        # Keys and values of each layer, (slots, H, columns, E); where only the lowest are read, behind them what these
        # give, (slots, 1, columns, D), beside nothing.
        self._table: list[tuple[Tensor, Tensor]] = []
        self._enough = False  # whether the prompts of the call before had enough in common with those before them
        self._noted = False  # whether the prompts of the call before were noted
        self._pause = 0  # calls that are left out before prompts are noted again

    def read(self, batch: Inputs, *, looks: bool = True) -> Tensor | None:
        """Return the hidden states at all contexts, (U, 1 + K, D), or None where too little is known to begin from.

        Args:
            batch: the prompts.
            looks: whether to look for changes of the weights; False where that was done just before.
        """
        states = self._read_from_where_they_differ(batch, looks=looks)
        return None if states is None else torch.cat(states)

    def read_lower(self, batch: Inputs) -> Tensor | None:
        """Return what the lowest layers give at each token of each prompt and at the nodes behind it, (N, D), or None.

        The rows are those of the first prompt, then of the second, and so on. The weights are not looked at.
        """
        return self.read(batch, looks=False)

    def _read_from_where_they_differ(self, batch: Inputs, *, looks: bool) -> list[Tensor] | None:
        if looks:
            self._watch.changed()
        if self._watch.changes != self._changes:
            self._changes = self._watch.changes
            self.clear_cache()
        self._calls += 1
        self._pause -= 1
        if self._pause > 0:
            return None
        tokens = batch.prompts.cpu().numpy()
        self._make_room(*tokens.shape)
        if not len(self._tokens):
            return None
        donors, shared = self._match(tokens, batch.lengths)
        enough = bool(shared.sum() >= ENOUGH * batch.lengths.sum())
        worth_it = enough or self._enough
        self._enough = enough
        starts = np.where(self._filled[donors], shared, 0)
        targets = self._assign(donors, shared)
        hidden = self._read(batch, donors, starts, targets) if worth_it else None
        # It takes two calls in a row to find anything: one to note the prompts, one to compare.
        in_vain = self._noted and not worth_it
        self._noted, self._pause = not in_vain, PAUSE if in_vain else 0
        kept = targets >= 0
        self._tokens[targets[kept]] = PADDING
        self._tokens[targets[kept], : tokens.shape[1]] = tokens[kept]
        self._filled[targets[kept]] = worth_it
        self._used[targets[kept]] = self._calls
        return hidden

    def _make_room(self, batch: int, columns: int) -> None:
        """See that there are slots for twice the batch, if they may be had, and columns for its longest prompt."""
        slots, before = self._tokens.shape
        columns = max(before, -(-columns // 64) * 64)
        more = min(max(slots, 2 * batch), self.max_bytes // (columns * self._token_bytes))
        if more < slots:
            self.clear_cache()
            slots, before = 0, 0
        if (more, columns) == (slots, before):
            return
        grown = np.full((more, columns), PADDING, dtype=np.int64)
        grown[:slots, :before] = self._tokens
        self._tokens = grown
        self._filled = np.pad(self._filled, (0, more - slots))
        self._used = np.pad(self._used, (0, more - slots))
        for layer, parts in enumerate(self._table):
            keys, values = (part.new_zeros(more, part.shape[1], columns, part.shape[3]) for part in parts)
            keys[:slots, :, :before], values[:slots, :, :before] = parts
            self._table[layer] = keys, values

    def _match(
        self, tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each prompt the slot that begins most like it, and how many tokens they share."""
        width = tokens.shape[1]
        same = tokens[:, None] == self._tokens[None, :, :width]  # (U, slots, width)
        shared = np.where(same.all(axis=2), width, same.argmin(axis=2))
        donors = (2 * shared + self._filled).argmax(axis=1)
        # The last token is always read: the hidden state there is what is asked for.
        return donors, np.minimum(shared[np.arange(len(tokens)), donors], lengths - 1)

    def _assign(self, donors: npt.NDArray[np.int64], shared: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the slot that each prompt goes to: its donor's, or the one unused for longest; -1 if there is none."""
        targets = np.full(len(donors), -1, dtype=np.int64)
        taken: set[int] = set()
        for prompt in np.argsort(-shared, kind="stable"):
            if shared[prompt] > 0 and int(donors[prompt]) not in taken:
                targets[prompt] = donors[prompt]
                taken.add(int(donors[prompt]))
        free = iter([int(slot) for slot in np.argsort(self._used, kind="stable") if int(slot) not in taken])
        for prompt in np.flatnonzero(targets < 0):
            targets[prompt] = next(free, -1)
        return targets

    def _read(
        self,
        batch: Inputs,
        donors: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
    ) -> list[Tensor]:
        """Return the states of each prompt, in the order of the batch."""
        new = batch.lengths - starts
        order = np.argsort(new, kind="stable")
        hidden: list[Tensor] = []
        caches = []
        for rows in chunks_of_like_length(new[order] + self.tries.n_nodes, self.model.device):
            chunk = order[rows]
            states, computed = self._read_chunk(batch, chunk, donors[chunk], starts[chunk], int(new[chunk].max()))
            hidden += states
            caches.append((chunk, computed))
        # Only now, when no prompt still has to begin from a slot, are the slots written.
        for chunk, computed in caches:
            self._keep(computed, donors[chunk], targets[chunk], starts[chunk], new[chunk])
        return [hidden[place] for place in np.argsort(order)]

    def _read_chunk(
        self,
        batch: Inputs,
        chunk: npt.NDArray[np.int64],
        donors: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        new: int,
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Read the prompts `chunk` from `starts` on, at most `new` tokens of each; return states, and what to keep."""
        device = self.model.device
        begin = torch.from_numpy(starts).to(device)[:, None]
        lengths = torch.from_numpy(batch.lengths[chunk]).to(device)[:, None]
        places = begin + torch.arange(new, device=device)  # (U, S)
        prompts = batch.prompts[torch.from_numpy(chunk).to(device)]
        suffixes = prompts.gather(1, places.clamp(max=prompts.shape[1] - 1)).masked_fill(places >= lengths, PADDING)
        known = int(starts.max())
        slots = torch.from_numpy(donors).to(device)
        cache = DynamicCache()
        if known:
            for layer, (keys, values) in enumerate(self._table[: self._layers]):
                cache.update(keys[:0, :, :0], values[:0, :, :0], layer)  # makes the layer
                filled: Any = cache.layers[layer]  # update would copy what is ours already
                filled.keys, filled.values = keys[slots, :, :known], values[slots, :, :known]
        packed = pack(suffixes, self.tries, starts=begin[:, 0], cached=known)
        if self._layers is None:
            hidden = read_hidden_states(self.model, **vars(packed), cache=cache)
            return list(hidden[:, None].unbind()), _kept(cache)
        lower = read_lower_states(
            self.model, packed.tokens, self._layers, positions=packed.positions, mask=packed.mask, cache=cache
        ).states
        before = self._table[-1][0][slots, 0, :known] if known else lower[:, :0]
        rows = [
            torch.cat([before[row, :start], lower[row, : length - start], lower[row, new:]])
            for row, (start, length) in enumerate(zip(starts.tolist(), batch.lengths[chunk].tolist(), strict=True))
        ]
        states = torch.cat([before, lower[:, :new]], dim=1)[:, None]
        return rows, [*_kept(cache), (states, states[..., :0])]

    def _keep(
        self,
        computed: list[tuple[Tensor, Tensor]],
        donors: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        new: npt.NDArray[np.int64],
    ) -> None:
        """Write what a chunk has computed into the slots `targets`."""
        known = int(starts.max())
        if not self._table:
            slots, columns = self._tokens.shape
            for parts in computed:
                first, second = (part.new_zeros(slots, part.shape[1], columns, part.shape[3]) for part in parts)
                self._table.append((first, second))
        moved = np.flatnonzero((targets >= 0) & (targets != donors) & (starts > 0))
        rows = np.repeat(np.arange(len(new)), np.where(targets >= 0, new, 0))
        within = np.arange(len(rows)) - np.searchsorted(rows, rows)  # 0, 1, 2, ... in each row
        for tables, parts in zip(self._table, computed, strict=True):
            for table, part in zip(tables, parts, strict=True):
                if len(moved):
                    table[targets[moved], :, :known] = part[moved, :, :known]
                table[targets[rows], :, starts[rows] + within] = part[rows, :, known + within]


def _kept(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Return the keys and values of each layer in a cache."""
    layers: Any = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def keeps_exactly(model: PreTrainedModel, longest: int) -> bool:
    """Say whether prompts that are read on from kept keys and values get the states that they have when read whole.

    Args:
        model: a causal language model.
        longest: how many tokens the prompts have at the most.
    """
    if computes_last_layer_in_part(model):
        return True  # by layers of our own, which take every mask as it is
    with trials_of(model, lambda one, prompts, _: last_hidden_state(one, prompts), longest, None) as trials:
        return all(trial.accepts(_read_by_parts) for trial in trials)


def _read_by_parts(model: PreTrainedModel, prompts: Tensor, _: Tries) -> Tensor:
    """Return the last hidden states, (B, D), of prompts whose beginnings are read before: to be noted, to be kept."""
    memory = PrefixMemory(model, Tries([ActionTrie.build([[0]])]).to(model.device), 64 * 2**20)
    length = prompts.shape[1]
    for end in (max(1, length // 2), max(1, 2 * length // 3), length):
        batch = Inputs.of(prompts[:, :end], None)
        hidden = memory.read(batch)
    if hidden is None:
        raise ValueError("the prompts are too short to have a beginning in common")
    return hidden[batch.inverse, 0]
