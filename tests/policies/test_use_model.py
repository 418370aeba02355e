"""`--model use`: a sentence encoder without weights of its own, as a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heed.agents import DQN, PPO, CheckpointError, export, load
from heed.envs.contract import TextActions
from heed.evaluation.explanation.saliency import explain
from heed.policies import Adapter, LanguageActorCriticPolicy, LanguageModel, LanguageModelError, load_language_model
from heed.policies.backbones.sentence_encoder import BYTES
from heed.policies.models.use import use_vectors
from heed.policies.prompts.segments import SegmentEncoder
from tests.doors import make_doors

WORDS = {"instruction": ["va vers la boule rouge\n!"], "observation": ["red ball 2 left; Étage [SEP] 二; [PAD]"]}


@pytest.fixture(scope="module")
def use() -> LanguageModel:
    return load_language_model("use")


def test_a_row_of_tokens_holds_its_text_byte_by_byte(use: LanguageModel) -> None:
    encoder = use.encoder(max_tokens=96, segments=True)
    assert isinstance(encoder, SegmentEncoder)
    row = encoder(WORDS)[0]
    assert row.dtype == np.int16
    texts = ["va vers la boule rouge !", "red ball 2 left", "Étage [SEP] 二", "[PAD]"]
    assert [bytes(one.astype(np.uint8)).decode() for one in encoder.split(row[row >= 0])] == texts
    assert encoder.decode(row) == "[SEP]".join(texts)
    text = "".join(map(chr, range(0x180))) + "二\U0001f3bb"
    tokens = use.tokenizer.encode(text, add_special_tokens=False)
    assert tokens == list(text.encode())
    assert use.tokenizer.decode(tokens) == text


def test_segments_get_the_vectors_of_their_texts(use: LanguageModel) -> None:
    encoder = use.encoder(max_tokens=96, segments=True)
    policy = LanguageActorCriticPolicy(encoder.space, TextActions(("turn left", "二")), lambda _: 1e-3, model=use)
    network: Any = policy.network
    texts = ["va vers la boule rouge !", "turn left", "二", ""]
    keys = [np.frombuffer(text.encode(), np.uint8).astype(np.int32).tobytes() for text in texts]
    np.testing.assert_array_equal(network._vectors(keys, torch.device("cpu")), use_vectors(texts))
    distribution: Any = policy.get_distribution(torch.as_tensor(encoder(WORDS))).distribution
    torch.testing.assert_close(distribution.probs, torch.full((1, 2), 0.5), rtol=0.1, atol=0)


def test_nothing_of_it_trains_and_nothing_of_it_is_kept(use: LanguageModel, tmp_path: Path) -> None:
    assert not list(use.model.parameters())
    assert not use.model.state_dict()
    agent = PPO(env=make_doors(4), seed=0, n_steps=8, batch_size=16, policy_kwargs={"model": use})
    agent.learn(32)
    export(agent, tmp_path / "shared")
    files = {path.name: path.stat().st_size for path in (tmp_path / "shared").rglob("*") if path.is_file()}
    assert "model.safetensors" not in files
    assert sum(files.values()) < 4e6
    config = tmp_path / "shared" / "config.json"
    told = json.loads(config.read_text())
    told["files"]["resources/weights.npz"] = "0" * 64
    config.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="another sentence encoder"):
        load(tmp_path / "shared")


def test_its_folder_is_a_language_model(use: LanguageModel, tmp_path: Path) -> None:
    use.share(tmp_path)
    again = load_language_model(str(tmp_path))
    assert again.pooling == "cls"
    assert again.vocabulary == use.vocabulary == BYTES + 2
    agent = DQN(
        env=make_doors(2), seed=0, learning_starts=4, buffer_size=32, batch_size=4, policy_kwargs={"model": again}
    )
    agent.learn(16)
    agent.save(tmp_path / "agent")
    words = {**WORDS, "actions": [("open red door", "open green door")]}
    before = agent.action_preferences(words)
    np.testing.assert_array_equal(load(tmp_path / "agent").action_preferences(words), before)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"train_layers": 2}, "train_layers=2"),
        ({"adapter": Adapter(rank=2)}, "adapter="),
        ({"weights": "bfloat16", "train_layers": 0}, "no weights of its own"),
        ({"freeze_embeddings": True}, "freeze_embeddings=True"),
        ({"compiled": True}, "compiled=True"),
        ({"activation_checkpointing": True}, "activation_checkpointing=True"),
        ({"segments": False}, "reads segments and nothing else"),
        ({"normalization": "sum"}, "Leave normalization='sum' out"),
    ],
)
def test_what_it_does_not_have_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PPO(env=make_doors(2), policy_kwargs={"model": "use", **options})


def test_it_has_no_revision() -> None:
    with pytest.raises(LanguageModelError, match="no revision"):
        load_language_model("use@main")


def test_words_are_left_out_where_there_is_no_gradient(use: LanguageModel) -> None:
    encoder = use.encoder(max_tokens=96, segments=True)
    policy = LanguageActorCriticPolicy(encoder.space, TextActions(("turn left", "二")), lambda _: 1e-3, model=use)
    network: Any = policy.network
    torch.nn.init.normal_(network.actions.score.weight)
    explained = explain(policy, {key: texts[0] for key, texts in WORDS.items()}, action=1)
    assert [word.text for word in explained.words][:3] == ["va", "vers", "la"]
    assert np.abs(explained.leave_one_out).max() > 1e-3
    has_tokens = [bool(word.tokens) for word in explained.words]  # a semicolon alone has none
    assert np.isnan(explained.gradient_x_input).tolist() == has_tokens
    assert np.isnan(explained.gradient_norm).tolist() == has_tokens
