"""A model that is frozen, or its lower layers, is computed once for each prompt, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from heed.envs.contract import TextActions
from heed.policies.backbones.hidden_states import layers_of, read_hidden_states, read_lower_states
from heed.policies.caches import frozen as frozen_module
from heed.policies.caches.frozen import FrozenLayers, freeze
from heed.policies.heads.scoring import pack
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING
from heed.policies.q_network import LanguageQPolicy, sharing
from tests.small_models import BUILDERS, VOCABULARY, build

TRIES = Tries([ActionTrie.build([[7, 8], [7, 9, 11], [12]])])


def ragged_prompts() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(0, VOCABULARY, (4, 9), generator=generator)
    for row, length in enumerate([3, 5, 9, 9]):
        prompts[row, length:] = PADDING
    return prompts


KEYS = [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_only_the_top_layers_train(family: str) -> None:
    model = build(family)
    freeze(model, 1)
    layers = layers_of(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, _ in model.named_parameters() if ".1." in name} <= trained
    assert not any(parameter.requires_grad for parameter in layers[0].parameters())
    assert not model.get_input_embeddings().weight.requires_grad
    assert any("norm" in name or "ln_f" in name for name in trained if "1." not in name), "the final norm trains"
    head = model.get_output_embeddings()
    assert head is not None
    assert head.weight.requires_grad == (head.weight is not model.get_input_embeddings().weight)


def test_layers_that_are_not_there_cannot_train() -> None:
    with pytest.raises(ValueError, match="train_layers is 3, but the language model has 2 layers"):
        freeze(build("llama"), 3)
    with pytest.raises(ValueError, match="train_layers is -1"):
        freeze(build("llama"), -1)


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_states_and_gradients_are_those_of_the_whole_forward(family: str) -> None:
    model, prompts = build(family), ragged_prompts()
    freeze(model, 1)
    packed = vars(pack(prompts, TRIES))
    reader = FrozenLayers(model, layers=1, max_bytes=2**20).reader(prompts, KEYS)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradients(states: Tensor) -> tuple[Tensor | None, ...]:
        weights = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)
        return torch.autograd.grad((states * weights).sum(), trained, allow_unused=True)

    whole = read_hidden_states(model, **packed)
    for _ in range(2):  # computed, then remembered
        states = reader(model, **packed)
        torch.testing.assert_close(states, whole, atol=1e-9, rtol=1e-9)
        for ours, theirs in zip(gradients(states), gradients(whole), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        whole = read_hidden_states(model, **packed)


def test_the_frozen_layers_are_computed_once_for_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    original = read_lower_states

    def counting(model: Any, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        computed.append(len(tokens))
        return original(model, tokens, *args, **kwargs)

    monkeypatch.setattr(frozen_module, "read_lower_states", counting)
    model, prompts = build("llama"), ragged_prompts()
    freeze(model, 1)
    layers = FrozenLayers(model, layers=1, max_bytes=2**20)
    some = layers.reader(prompts[:2, :5], KEYS[:2])
    some(model, **vars(pack(prompts[:2, :5], TRIES)))
    every = layers.reader(prompts, KEYS)(model, **vars(pack(prompts, TRIES)))
    assert computed == [2, 2], "the second time, the two that were new"
    torch.testing.assert_close(every, read_hidden_states(model, **vars(pack(prompts, TRIES))), atol=1e-9, rtol=0)
    with torch.no_grad():
        layers_of(model)[0].mlp.up_proj.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    changed = layers.reader(prompts, KEYS)(model, **vars(pack(prompts, TRIES)))
    assert computed == [2, 2, 4], "weights were loaded: all is computed anew"
    assert not torch.allclose(changed, every)


@pytest.mark.parametrize("max_bytes", [0, 3000])
def test_what_does_not_fit_is_computed_every_time(max_bytes: int) -> None:
    model, prompts = build("llama"), ragged_prompts()
    freeze(model, 1)
    layers = FrozenLayers(model, layers=1, max_bytes=max_bytes)
    for _ in range(3):
        states = layers.reader(prompts, KEYS)(model, **vars(pack(prompts, TRIES)))
        torch.testing.assert_close(states, read_hidden_states(model, **vars(pack(prompts, TRIES))), atol=1e-9, rtol=0)
        one = layers.reader(prompts[:1, :3], KEYS[:1])(model, **vars(pack(prompts[:1, :3], TRIES)))
        torch.testing.assert_close(one, states[:1], atol=1e-9, rtol=0)


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny")


@pytest.mark.parametrize("head", ["score", "linear"])
def test_a_frozen_network_reads_each_prompt_once_in_updates_too(head: Any, tiny: LanguageModel) -> None:
    network = LanguageNetwork(
        tiny.copy(), TextActions(("turn left", "turn right")), ModelOptions(head=head, train_layers=0)
    )
    network.train()
    prompts = torch.tensor([[5, 6, PADDING], [7, 8, 9], [5, 6, PADDING]])
    first, first_scores = network(prompts)
    assert network.memory is not None
    assert len(network.memory) == 2
    assert not first.requires_grad
    again, again_scores = network(prompts)
    assert torch.equal(first, again)
    assert (first_scores is None) == (head == "linear")
    assert first_scores is None or torch.equal(first_scores, again_scores)
    network.clear_cache()
    assert not len(network.memory)


def test_dqn_shares_what_it_remembers_of_a_frozen_model(tiny: LanguageModel) -> None:
    space = tiny.encoder(max_tokens=32).space
    policy: Any = sharing(LanguageQPolicy)(space, TextActions(("a", "b")), lambda _: 1e-3, model=tiny, train_layers=0)
    assert policy.q_net_target.network.memory is policy.q_net.network.memory is not None


def growing_prompts(rows: int) -> list[Tensor]:
    """Return batches of prompts that begin alike, as those of instructions that come again do; longer and shorter."""
    generator = torch.Generator().manual_seed(2)
    beginnings = torch.randint(0, VOCABULARY, (3, 8), generator=generator)
    batches = []
    for _ in range(6):
        prompts = torch.full((rows, 14), PADDING)
        for row in range(rows):
            length = int(torch.randint(8, 15, (1,), generator=generator))
            prompts[row, :8] = beginnings[row % 3]
            prompts[row, 8:length] = torch.randint(0, VOCABULARY, (length - 8,), generator=generator)
        order = (prompts != PADDING).sum(dim=1).argsort(stable=True)
        batches.append(prompts[order])
    return batches


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_what_prompts_begin_with_goes_through_the_frozen_layers_once(family: str) -> None:
    model = build(family)
    if family in ("gemma2", "gemma3"):
        pytest.skip("its windows rule kept keys and values out, as they do for whole models")
    freeze(model, 1)
    layers = FrozenLayers(model, layers=1, max_bytes=2**20)
    layers.keep_prefixes(TRIES, 2**22)
    computed = 0

    def count(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal computed
        hidden = arguments[0] if arguments else named["hidden_states"]
        computed += hidden.shape[0] * hidden.shape[1]

    layers_of(model)[0].register_forward_pre_hook(count, with_kwargs=True)
    read = 0
    for number, prompts in enumerate(growing_prompts(6)):
        packed = vars(pack(prompts, TRIES))
        before = computed
        states = layers.reader(prompts, [bytes([number, row]) for row in range(6)])(model, **packed)
        assert states.requires_grad
        read += computed - before
        whole = read_hidden_states(model, **packed)
        torch.testing.assert_close(states, whole, atol=1e-9, rtol=1e-9)
    tokens = sum(prompts.numel() + len(prompts) * TRIES.n_nodes for prompts in growing_prompts(6))
    assert read < 0.8 * tokens, "the first two batches are noted and filled in"


def test_the_trained_layers_may_change_and_the_frozen_ones_may_not() -> None:
    model = build("llama")
    freeze(model, 1)
    layers = FrozenLayers(model, layers=1, max_bytes=2**20)
    layers.keep_prefixes(TRIES, 2**22)
    for number, prompts in enumerate(growing_prompts(6)):
        with torch.no_grad():
            layers_of(model)[number % 2].mlp.up_proj.weight.mul_(1.1)  # type: ignore[union-attr, operator]
        packed = vars(pack(prompts, TRIES))
        states = layers.reader(prompts, [bytes([number, row]) for row in range(6)])(model, **packed)
        torch.testing.assert_close(states, read_hidden_states(model, **packed), atol=1e-9, rtol=1e-9)
