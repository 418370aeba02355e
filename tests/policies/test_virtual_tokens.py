"""Virtual tokens: what peft's own models compute, and a gradient for them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM, PrefixTuningConfig, PromptTuningConfig

from heed.envs.contract import TextActions
from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.heads.scoring import naive_scores
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.text_network import LanguageNetwork
from tests.small_models import BUILDERS, ENCODER_DECODERS, WITH_WINDOWS, build

# peft asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

COUNT = 3
PROMPTS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, -1]])
ACTIONS = [[3, 4], [3, 5], [6]]


def adapted(family: str, method: Any) -> LanguageModel:
    tokenizer = load_language_model("heed-tiny").tokenizer
    torch.manual_seed(1)
    plain = LanguageModel(build(family), tokenizer, family)
    return plain.for_training(adapter=Adapter(method=method, virtual_tokens=COUNT))


def by_peft(family: str, language_model: LanguageModel) -> Any:
    """Return peft's model with the same virtual tokens."""
    model = build(family)
    virtual: Any = language_model.model.virtual_tokens
    if virtual.embeddings is not None:
        other = PeftModelForCausalLM(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=COUNT))
        learned = virtual.embeddings
    else:
        other = PeftModelForCausalLM(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=COUNT))
        learned = virtual.states.permute(3, 0, 1, 2, 4).flatten(1)  # (P, layers * 2 * H * E)
    other.double()
    encoder: Any = other.prompt_encoder["default"]
    encoder.embedding.weight.data = learned.detach().clone()
    return other.eval()


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("family", sorted(set(BUILDERS) - WITH_WINDOWS))
def test_scores_are_those_of_pefts_models(family: str, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    language_model = adapted(family, method)
    monkeypatch.setattr(LanguageModel, "action_tokens", lambda *_: ACTIONS)
    network = LanguageNetwork(language_model, TextActions(("a", "b", "c")), ModelOptions())
    features, scores = network(PROMPTS)
    assert scores is not None
    other = by_peft(family, language_model)
    other.config.is_encoder_decoder = False
    with torch.no_grad():
        expected = naive_scores(_Logits(other, COUNT if method == "prompt" else 0), PROMPTS, ACTIONS)  # type: ignore[arg-type]
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)
    (features.sum() + scores.sum()).backward()
    moved = {name for name, weight in language_model.model.named_parameters() if weight.grad is not None}
    assert len(moved) == 1
    assert all(name.startswith("virtual_tokens") for name in moved)


class _Logits:
    """A peft model whose logits leave out the virtual tokens that it counts in."""

    def __init__(self, model: Any, skip: int):
        self.model, self.skip, self.config = model, skip, model.config

    def __call__(self, **inputs: Any) -> Any:
        inputs.pop("use_cache")
        tokens = inputs["input_ids"]
        output = self.model(attention_mask=torch.ones_like(tokens), **inputs)
        output.logits = output.logits[:, self.skip :]
        return output


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_a_model_with_an_encoder_takes_none(method: Any) -> None:
    with pytest.raises(AdapterError, match=f"takes no {method} adapter: virtual tokens stand before"):
        adapted(next(iter(ENCODER_DECODERS)), method)
