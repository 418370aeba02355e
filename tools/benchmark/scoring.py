"""How fast actions are scored, and in how much memory.

- *naive*: one full forward over all prompts for each action, log-softmax over every position, as published code does.
  Its gradient is taken action by action where it is timed, since the graphs of all actions need more memory than most
  machines have. What PPO's loss needs is all of them, and that is the memory reported.
- *packed* and *cached*: Heed's two ways; *heed* is the one that it chooses.
- *ideal*: one forward over prompts and trie nodes as if they were one text, without a mask, the vocabulary's logits
  only where a score is read. It scores nothing. More than 100 % of it is possible: Heed computes the last layer in
  part.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from heed.policies.heads.scoring import ActionScorer, ScoringMethod, token_logits
from heed.policies.heads.trie import ActionTrie, Tries
from heed.training.memory.peak import peak_bytes
from tools.benchmark.building import ACTION_TOKENS, new_actions, new_llama, new_prompts
from tools.benchmark.references import score_action
from tools.benchmark.timing import time_in_turn

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

OURS: tuple[ScoringMethod, ...] = ("packed", "cached")


class Scoring:
    """Prompts, actions and a model, and the ways to score the ones with the other.

    Args:
        config: of the model and the batch.
        length: of the prompts.
        count: of the actions.
        model: to score with; a new one unless given.
    """

    def __init__(self, config: BenchmarkConfig, length: int, count: int, model: PreTrainedModel | None = None):
        self.model = model or new_model(config)
        self.prompts = new_prompts(config.batch, length, config.vocabulary, config.seed).to(config.device)
        self.actions = new_actions(count)
        self.tries = Tries([ActionTrie.build(self.actions)]).to(config.device)

    @property
    def chosen(self) -> ScoringMethod:
        """The way that Heed chooses here."""
        return ActionScorer(OURS).method_for(self.model, self.prompts, self.tries)

    def naive(self) -> Tensor:
        """Score each action with a forward of its own, (B, A)."""
        return torch.stack([score_action(self.model, self.prompts, action)[1] for action in self.actions], dim=1)

    def ours(self, way: ScoringMethod) -> Tensor:
        """Score all actions in one of Heed's ways, (B, A)."""
        return ActionScorer((way,))(self.model, self.prompts, self.tries)[1]

    def ideal(self) -> Tensor:
        """Forward as many tokens as there are and read as many logits as are needed, (B, 1 + K, V)."""
        nodes = self.prompts.new_ones(len(self.prompts), self.tries.n_nodes)
        tokens = torch.cat([self.prompts, nodes], dim=1)
        hidden = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return torch.log_softmax(token_logits(self.model, hidden[:, self.prompts.shape[1] - 1 :]), dim=-1)

    def ways(self) -> dict[str, Callable[[], Tensor]]:
        """Return all ways by name."""
        return {"naive": self.naive, **{way: partial(self.ours, way) for way in OURS}, "ideal": self.ideal}

    def run(self, way: Callable[[], Tensor], backward: bool) -> None:
        """Go a way, with the gradient of all weights or without."""
        if backward:
            self.model.zero_grad()
            way().sum().backward()
        else:
            with torch.no_grad():
                way()

    def run_naive_backward(self) -> None:
        """Do what `run(self.naive, backward=True)` does, with the graph of one action at a time."""
        self.model.zero_grad()
        for action in self.actions:
            score_action(self.model, self.prompts, action)[1].sum().backward()


def new_model(config: BenchmarkConfig, *, hidden: int | None = None, layers: int | None = None) -> PreTrainedModel:
    """Return the model that is scored with."""
    positions = max(*config.prompts, *config.growth_prompts, 0) + ACTION_TOKENS
    with torch.device(config.device):  # a model without numbers (`memory.py`) cannot be moved there afterwards
        return new_llama(
            hidden=hidden or config.hidden,
            layers=layers or config.layers,
            vocabulary=config.vocabulary,
            positions=positions,
            seed=config.seed,
        )


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time all ways, with and without gradients, for every prompt length and number of actions."""
    model = new_model(config)
    rows = []
    for length in config.prompts:
        for count in config.actions:
            scoring = Scoring(config, length, count, model)
            for backward in (False, True):
                rows.append(_row(config, scoring, backward))
        model.zero_grad()  # the gradients of this length would count as memory that was there before the next
    names = ("speed_up_over_naive", "percent_of_ideal", "naive_memory_over_ours")
    medians = {
        mode: {name: statistics.median(row[name] for row in rows if row["backward"] == backward) for name in names}
        for mode, backward in (("forward", False), ("forward + backward", True))
    }
    return {"rows": rows, "medians": medians}


def _row(config: BenchmarkConfig, scoring: Scoring, backward: bool) -> dict[str, Any]:
    length, count = scoring.prompts.shape[1], len(scoring.actions)
    runs: dict[str, Callable[[], object]] = {
        name: partial(scoring.run, way, backward) for name, way in scoring.ways().items()
    }
    if backward:
        runs["naive"] = scoring.run_naive_backward
    timings = time_in_turn(runs, repeats=config.repeats, patience={"naive": config.patience})
    peaks = {name: peak_of(config, name, length, count, backward) for name in runs}
    ours = scoring.chosen
    return {
        "prompt_tokens": length,
        "actions": count,
        "backward": backward,
        "heed": ours,
        "seconds": {name: timing.as_json() for name, timing in timings.items()},
        "peak_bytes": peaks,
        "speed_up_over_naive": timings["naive"].median / timings[ours].median,
        "percent_of_ideal": 100 * timings["ideal"].median / timings[ours].median,
        "naive_memory_over_ours": peaks["naive"] / peaks[ours],
    }


def peak_of(config: BenchmarkConfig, way: str, length: int, count: int, backward: bool) -> int:
    """Return the peak memory of a way, in bytes."""
    peak = partial(_peak, config, way, length, backward)
    if way != "naive" or count <= 3:
        return peak(count)
    # Every further action adds the same: no need to go through forty, which a GPU may not even hold.
    two, three = peak(2), peak(3)
    return two + (count - 2) * (three - two)


@functools.lru_cache
def _peak(config: BenchmarkConfig, way: str, length: int, backward: bool, count: int) -> int:
    def prepare() -> Callable[[], object]:
        scoring = Scoring(config, length, count)
        return partial(scoring.run, scoring.ways()[way], backward)

    return peak_bytes(prepare, config.device)


def report(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what to print."""
    for mode in result["medians"]:
        table = Table(title=f"scoring actions, {mode}", title_justify="left")
        for column in ("tokens", "actions", "heed", "ms", "x naive", "% of ideal", "x memory"):
            table.add_column(column, justify="right", no_wrap=column == "ms")
        for row in result["rows"]:
            if row["backward"] == (mode == "forward"):
                continue
            ours = row["seconds"][row["heed"]]
            table.add_row(
                str(row["prompt_tokens"]),
                str(row["actions"]),
                row["heed"],
                f"{1e3 * ours['median']:.1f} ({1e3 * ours['low']:.1f} to {1e3 * ours['high']:.1f})",
                f"{row['speed_up_over_naive']:.1f}",
                f"{row['percent_of_ideal']:.0f}",
                f"{row['naive_memory_over_ours']:.1f}",
            )
        yield table
    for mode, medians in result["medians"].items():
        yield (
            f"{mode}, medians: {medians['speed_up_over_naive']:.1f}x naive, {medians['percent_of_ideal']:.0f} % of "
            f"ideal, naive takes {medians['naive_memory_over_ours']:.1f}x our memory"
        )
