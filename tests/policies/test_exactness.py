"""A way of reading is used where it gives what the definition gives: at full length, beyond windows, in any type."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium import spaces
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from heed.envs.contract import TextActions
from heed.policies.backbones import exactness
from heed.policies.backbones.backbone import Backbone, backbone_of
from heed.policies.backbones.probe_model import probe_of
from heed.policies.caches.frozen import goes_on_exactly
from heed.policies.caches.prefixes import keeps_exactly
from heed.policies.heads.scoring import ActionScorer, exact_methods, make_scorer, naive_scores
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from heed.policies.prompts.layout import PADDING, Actions
from tests.policies.test_scoring import ACTIONS, deaf_to_masks, tries_of
from tests.small_models import build

_SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32}
_LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4}
_KINDS = [[["global", "local"], 1]]


def gpt_neo(**extra: Any) -> PreTrainedModel:
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "attention_types": _KINDS, "window_size": 32}
    return GPTNeoForCausalLM(GPTNeoConfig(**_SIZES, **{**sizes, "max_position_embeddings": 256, **extra}))


def opt(**extra: Any) -> PreTrainedModel:
    sizes: dict[str, Any] = {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16}
    return OPTForCausalLM(OPTConfig(**_SIZES, **_LAYERS, **sizes, do_layer_norm_before=False, **extra))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt-neo": gpt_neo,
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**_SIZES, **_LAYERS, intermediate_size=32, num_key_value_heads=2, sliding_window=32)
    ),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**_SIZES, n_layer=2, n_head=4)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(**_SIZES, num_hidden_layers=2, state_size=4)),
    "jamba": lambda: JambaForCausalLM(
        JambaConfig(
            **{**_SIZES, **_LAYERS, "num_key_value_heads": 2, "intermediate_size": 32, "num_experts": 2},
            attn_layer_period=2,
            attn_layer_offset=1,
            mamba_d_state=4,
        )
    ),
    "opt": opt,
}
EXACT = {"gpt-neo": ["packed", "cached"], "mistral": ["packed", "cached"], "opt": ["packed", "cached"]}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # state-space models tell of kernels that are not there
        model = MODELS[name]()
        model.train(False)
        return model


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_ways_are_those_that_are_exact(name: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new model's weights are so small that a state-space layer's mistakes hardly show; trained ones do."""
    monkeypatch.setattr(exactness, "SMALL", 10**9 if small else 0)
    model = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert exact_methods(model, ("packed", "cached"), longest=80, n_nodes=4) == EXACT.get(name, [])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["gpt-neo", "mistral"])
def test_scores_are_exact_on_both_sides_of_a_window(name: str) -> None:
    model = made(name)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    assert backbone_of(model).window == 32
    scorer, tries = ActionScorer(), tries_of(ACTIONS)
    with torch.no_grad():
        for length in (20, 27, 28, 32, 60):
            prompts = torch.randint(3, 50, (2, length), generator=torch.Generator().manual_seed(length))
            prompts[1, length // 2 :] = PADDING
            expected = naive_scores(model, prompts, ACTIONS)
            torch.testing.assert_close(scorer(model, prompts, tries)[1], expected, atol=1e-4, rtol=1e-4)


def test_a_window_that_no_configuration_names_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("gpt-neo")
    monkeypatch.setattr(Backbone, "window", None)
    assert exact_methods(model, ("packed", "cached"), longest=20) == ["packed", "cached"]
    assert exact_methods(model, ("packed", "cached"), longest=80) == []


def in_type(dtype: torch.dtype) -> PreTrainedModel:
    model = build("gpt2")
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_mask_that_is_dropped_is_found_out_in_any_type(dtype: torch.dtype) -> None:
    model = deaf_to_masks(in_type(dtype))
    with pytest.warns(UserWarning, match="exactly only one by one"):
        assert make_scorer(model, tries_of(ACTIONS), "mean").methods == ("naive",)
    assert model.dtype == dtype
    assert make_scorer(in_type(dtype), tries_of(ACTIONS), "mean").methods == ("packed", "cached")


def test_a_probe_has_a_layer_of_each_kind_and_the_windows_of_the_model() -> None:
    kinds = ["global"] * 5 + ["local"]
    model = gpt_neo(num_layers=6, attention_types=[[["global"], 5], [["local"], 1]], max_position_embeddings=128)
    assert model.config.attention_layers == kinds
    probe = probe_of(model)
    assert probe.config.attention_layers == ["global", "local"]
    assert probe.config.window_size == 32
    assert probe.dtype == torch.float32


def test_keys_and_frozen_layers_are_kept_where_that_is_exact() -> None:
    assert [keeps_exactly(made(name), 40) for name in ("opt", "bloom", "mamba")] == [True, False, False]
    # OPT's layers lie deeper than heed reaches to leave some out.
    assert [goes_on_exactly(made(name), 1, 40) for name in ("gpt-neo", "bloom", "opt")] == [True, True, False]


# -- positions and widths ----------------------------------------------------------------------------------------


def as_language_model(model: PreTrainedModel) -> LanguageModel:
    tiny = load_language_model("heed-tiny-random")
    model.resize_token_embeddings(len(tiny.tokenizer))
    return LanguageModel(model, tiny.tokenizer, "probe")


@pytest.mark.parametrize("head", ["score", "linear"])
def test_hidden_states_may_be_narrower_than_the_layers(head: Any) -> None:
    language_model = as_language_model(made("opt"))
    assert language_model.backbone.width == 16
    encoder = language_model.encoder(max_tokens=60)
    network = LanguageNetwork(
        language_model, TextActions(("turn left", "go")), ModelOptions(head=head), encoder=encoder
    )
    features, _ = network(torch.as_tensor(encoder({"instruction": ["go"], "observation": ["red ball"]})))
    assert features.shape == (1, network.features_dim) == (1, 16)


def test_actions_that_change_have_room_behind_their_prompt() -> None:
    language_model = as_language_model(made("opt"))
    encoder = language_model.encoder(max_tokens=62, modalities=(Actions(2),))
    words = {"instruction": ["go"] * 2, "observation": ["red ball 2 left; " * 30] * 2}
    short, long = ("turn left", "done"), ("put the red ball next to the green box and then go back again", "done")
    with pytest.warns(UserWarning, match="is cut"):
        rows = torch.as_tensor(encoder({**words, "actions": [short, long]}))
    lengths = (rows[:, :62] >= 0).sum(dim=1)
    taken = [max(map(len, language_model.action_tokens(texts))) for texts in (short, long)]
    assert lengths.tolist() == [min(62, 64 - one) for one in taken]
    network = LanguageNetwork(language_model, spaces.Discrete(2), ModelOptions(), encoder=encoder)
    assert torch.isfinite(network(rows)[1]).all()
    with pytest.raises(ValueError, match="no prompt has room before it"):
        encoder({**words, "actions": [short, ("go to the crimson box " * 20, "done")]})
    fixed = language_model.encoder(max_tokens=64)
    with pytest.raises(LanguageModelError, match=f"lower max_prompt_tokens to {64 - taken[1] + 1}"):
        LanguageNetwork(language_model, TextActions(long), ModelOptions(), encoder=fixed)
