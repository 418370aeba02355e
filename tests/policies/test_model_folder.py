"""A model loads whole or not at all, and what is said of a damaged folder is what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import load_language_model
from tests.small_models import build

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole")
    tokenizer = load_language_model("heed-tiny").tokenizer
    model = build("llama").float()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def weights(change: Callable[[Weights], Weights]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return rewrite


def config(**values: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return rewrite


def written(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_text(content))


def halved(name: str) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes((folder / name).read_bytes()[:700]))


def removed(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def void(_: Any) -> None:
    """Return nothing."""


def spoiled(number: float) -> Callable[[Weights], Weights]:
    def spoil(found: Weights) -> Weights:
        found["model.layers.1.mlp.up_proj.weight"][0, 0] = number
        return found

    return spoil


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "compiled": (weights(lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}), "'lm_head.weight'.*torch.compile"),
    "data parallel": (weights(lambda w: {f"module.{k}": v for k, v in w.items()}), "DistributedDataParallel"),
    "value head": (weights(lambda w: {**w, "v_head.summary.weight": torch.ones(1, 32)}), "v_head.*value head"),
    "no output embedding": (
        weights(lambda w: {k: w[k] for k in w if k != "lm_head.weight"}),
        "head.weight' is mis",
    ),
    "a layer less": (weights(lambda w: {k: w[k] for k in w if "layers.1." not in k}), "layers.1.*are missing"),
    "a layer too many": (config(num_hidden_layers=1), r"layers.1.* the model knows nothing"),
    "another shape": (config(intermediate_size=32), "another shape than the configuration says"),
    "NaN": (weights(spoiled(float("nan"))), r"'model.layers.1.mlp.up_proj.weight' holds NaN or infinity in 1 of"),
    "infinity": (weights(spoiled(float("-inf"))), "not all finite"),
    "git-lfs weights": (written("model.safetensors", POINTER), r"model.safetensors is a pointer of git-lfs"),
    "git-lfs tokenizer": (written("tokenizer.json", POINTER), r"tokenizer.json is a pointer of git-lfs"),
    "half the weights": (halved("model.safetensors"), "model.safetensors is damaged"),
    "half the configuration": (halved("config.json"), "config.json is no JSON"),
    "half the tokenizer": (halved("tokenizer.json"), "tokenizer.json is no JSON"),
    "no configuration": (removed("config.json"), "it has no config.json"),
    "no tokenizer": (removed("tokenizer.json", "tokenizer_config.json"), "no tokenizer|no vocabulary"),
    "another architecture": (config(model_type="no-such-model"), "no-such-model"),
    **{
        method: (config(quantization_config={"quant_method": method, "bits": 4}), rf"stored quantized \({method}\)")
        for method in ("gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors")
    },
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_what_is_not_whole_is_refused_by_its_cause(damage: str, whole: Path, tmp_path: Path) -> None:
    change, cause = DAMAGES[damage]
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    change(folder)
    with pytest.raises(LanguageModelError, match=cause) as caught:
        load_language_model(str(folder))
    assert "\n" not in str(caught.value)
    assert "directions" not in str(caught.value)


def test_masks_that_old_checkpoints_hold_are_no_weights(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "old"))
    weights(lambda w: {**w, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})(folder)
    weights(lambda w: {**w, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)})(folder)
    loaded = load_language_model(str(folder)).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in load_file(whole / "model.safetensors").items())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # between peft and transformers
def test_an_bundled_adapter_a_model_is_merged_into_it(whole: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = Path(shutil.copytree(whole, tmp_path / "both"))
    plain = AutoModelForCausalLM.from_pretrained(whole)
    adapted = peft.get_peft_model(plain, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(folder)
    with pytest.warns(UserWarning, match="it is merged into the weights"):
        language_model = load_language_model(str(folder))
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(language_model.model(tokens).logits, adapted(tokens).logits, atol=1e-4, rtol=1e-4)
        apart = load_language_model(str(whole)).model(tokens).logits - adapted(tokens).logits
    assert apart.abs().max() > 1e-2
    assert set(language_model.model.state_dict()) == set(load_language_model(str(whole)).model.state_dict())
    assert all(weight.requires_grad for weight in language_model.model.parameters())
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(LanguageModelError, match="lies beside it that cannot be merged"):
        load_language_model(str(folder))
