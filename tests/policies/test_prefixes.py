"""Prompts that go on from those read last are read from where they differ, and the result is that of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heed.envs.contract import TextActions
from heed.policies.backbones.hidden_states import read_hidden_states
from heed.policies.caches import prefixes as prefixes_module
from heed.policies.caches.batching import Inputs
from heed.policies.caches.prefixes import PrefixMemory
from heed.policies.heads.scoring import pack
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.model_options import ModelOptions
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING
from tests.small_models import BUILDERS, VOCABULARY, build

TRIES = Tries([ActionTrie.build([[7, 8], [7, 9, 11], [12]])])


def episodes(count: int, steps: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield prompts that grow as transcripts do, now and then cut to their end or begun anew."""
    random = np.random.default_rng(seed)
    texts = [list(random.integers(0, VOCABULARY, size=10)) for _ in range(count)]
    for _ in range(steps):
        for index, text in enumerate(texts):
            grown = [*text, *random.integers(0, VOCABULARY, size=int(random.integers(1, 6)))]
            fate = random.random()
            texts[index] = grown[-12:] if fate < 0.1 else grown[:1] if fate < 0.15 else grown
        prompts = np.full((count, max(map(len, texts))), PADDING)
        for row, text in zip(prompts, texts, strict=True):
            row[: len(text)] = text
        yield torch.from_numpy(prompts)


def reads_as_the_whole(memory: PrefixMemory, batch: Inputs) -> bool:
    """Say whether the memory served the prompts; if so, assert that the states are those of the whole forward."""
    states = memory.read(batch)
    if states is None:
        return False
    expected = read_hidden_states(memory.model, **vars(pack(batch.prompts, TRIES)))
    tolerance = (
        1e-9 if memory.model.config._attn_implementation == "sdpa" else 1e-5
    )  # the others' softmax is in float32
    torch.testing.assert_close(states, expected, atol=tolerance, rtol=0)
    return True


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_hidden_states_are_those_of_the_whole_prompts(family: str) -> None:
    model = build(family)
    memory = PrefixMemory(model, TRIES, max_bytes=2**24)
    served = 0
    with torch.no_grad():
        for prompts in episodes(5, 12):
            served += reads_as_the_whole(memory, Inputs.of(prompts))
    assert served > 8


def count_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    original = read_hidden_states

    def counting(model: Any, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        counts.append(tokens.numel())
        return original(model, tokens, *args, **kwargs)

    monkeypatch.setattr(prefixes_module, "read_hidden_states", counting)
    return counts


def test_only_what_is_new_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_tokens(monkeypatch)
    memory = PrefixMemory(build("llama"), TRIES, max_bytes=2**24)
    text = torch.arange(40)[None] % VOCABULARY
    with torch.no_grad():
        assert memory.read(Inputs.of(text[:, :20])) is None, "nothing to go on from: left to the plain way"
        assert memory.read(Inputs.of(text[:, :25])) is not None
        assert memory.read(Inputs.of(text[:, :28])) is not None
        assert memory.read(Inputs.of(text[:, :28])) is not None
    assert counts == [25 + 2, 3 + 2, 1 + 2]  # with the two inner nodes; the last token is always read


def test_nothing_is_kept_across_a_change_of_weights() -> None:
    model = build("llama")
    memory = PrefixMemory(model, TRIES, max_bytes=2**24)
    text = torch.arange(40)[None] % VOCABULARY
    with torch.no_grad():
        for length in (20, 22, 24):
            memory.read(Inputs.of(text[:, :length]))
        model.get_input_embeddings().weight.mul_(1.5)  # type: ignore[operator]
        assert memory.read(Inputs.of(text[:, :26])) is None
        for length in (28, 30):
            states = memory.read(Inputs.of(text[:, :length]))
        expected = read_hidden_states(model, **vars(pack(text[:, :30], TRIES)))
    assert states is not None
    torch.testing.assert_close(states, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("slots", [0, 1, 3])
def test_the_table_stays_within_its_bound(slots: int) -> None:
    model = build("llama")
    token_bytes = 2 * 2 * 2 * 8 * 8  # keys and values, 2 layers, 2 heads, width 8, float64
    memory = PrefixMemory(model, TRIES, max_bytes=slots * 64 * token_bytes)
    served = 0
    with torch.no_grad():
        for prompts in episodes(4, 40, seed=1):
            served += reads_as_the_whole(memory, Inputs.of(prompts))
            kept = sum(part.nbytes for parts in memory._table for part in parts)
            assert kept <= memory.max_bytes
    assert (served > 0) == (slots > 1)


def network(head: Any) -> LanguageNetwork:
    made = LanguageNetwork(
        load_language_model("heed-tiny"), TextActions(("turn left", "turn right")), ModelOptions(head=head)
    )
    made.train(False)
    return made


@pytest.mark.parametrize("head", ["score", "linear"])
def test_a_network_reads_histories_from_where_they_differ(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_tokens(monkeypatch)
    reading, plain = network(head), network(head)
    plain.memory = plain.prefixes = None
    whole = 0
    with torch.no_grad():
        for prompts in episodes(8, 20):
            whole += int((prompts != PADDING).sum())
            features, scores = reading(prompts)
            expected, expected_scores = plain(prompts)
            torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
            if scores is not None:
                torch.testing.assert_close(scores, expected_scores, atol=1e-4, rtol=1e-4)
    assert 0 < sum(counts) < whole / 2


@pytest.mark.parametrize(("option", "value"), [("train_layers", 1), ("window", 64)])
def test_models_for_which_it_would_not_be_right_go_without(option: str, value: int) -> None:
    language_model = load_language_model("heed-tiny")
    arguments: dict[str, Any] = {"train_layers": value} if option == "train_layers" else {}
    if option == "window":
        language_model.model.config.sliding_window = value
    made = LanguageNetwork(language_model, TextActions(("turn left", "turn right")), ModelOptions(**arguments))
    assert made.prefixes is None


def test_prompts_with_little_in_common_are_seldom_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = PrefixMemory(build("llama"), TRIES, max_bytes=2**24)
    compared = 0
    original = memory._match

    def counting(*args: Any) -> Any:
        nonlocal compared
        compared += 1
        return original(*args)

    monkeypatch.setattr(memory, "_match", counting)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        prompts = torch.randint(0, VOCABULARY, (4, 20), generator=generator)
        assert memory.read(Inputs.of(prompts)) is None
    assert compared == 12  # two in a row, then a pause
