"""The corpus asks about what is there and answers right; pretraining writes what `heed-tiny` is loaded from."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch

from heed.envs.babyai import ACTION_TEXTS
from heed.policies import tiny
from heed.policies.language_model import load_language_model
from heed.scripts import corpus, pretrain

SEEN = "red ball 2 left 3 ahead; closed grey door 1 right 4 ahead; red ball 3 ahead; wall 4 ahead; carrying blue key"


def test_things_are_found_with_their_places_the_nearest_first() -> None:
    assert corpus.things_in(SEEN) == {"red ball": "2 left 3 ahead", "grey door": "1 right 4 ahead"}
    assert corpus.things_in("nothing") == {}


def test_questions_are_answered_right() -> None:
    generator = random.Random(0)
    questions = [corpus.ask(SEEN, generator) for _ in range(500)]
    there = [question for question in questions if question.place != corpus.ABSENT]
    assert 0.6 < len(there) / len(questions) < 0.95
    for question in questions:
        assert question.thing in question.text
        kind, color = question.thing.split()[-1], question.thing.split()[0]
        if (kind == "ball" and color in ("red", "ball")) or question.thing == "red object":
            assert question.place == "2 left 3 ahead"
        elif kind == "door" and color in ("grey", "door"):
            assert question.place == "1 right 4 ahead"
        elif question.thing in ("blue key", "key", "purple box"):
            assert question.place == corpus.ABSENT


def test_places_are_said_in_either_order() -> None:
    generator = random.Random(0)
    assert {corpus.answer("2 left 3 ahead", generator) for _ in range(20)} == {"2 left 3 ahead", "3 ahead 2 left"}
    assert corpus.answer("3 ahead", generator) == "3 ahead"


def test_documents_have_the_form_of_heed_tinys_prompts() -> None:
    document = next(corpus.documents([SEEN], questions=2, generator=random.Random(0)))
    lines = document.split("\n")
    assert lines[0] == f" {SEEN}"
    assert len(lines) == 6
    assert document.startswith(tiny.TEMPLATE.format(observation=SEEN, instruction=lines[1].strip()))


def test_action_texts_are_one_token_each_and_equally_likely_at_first() -> None:
    language_model = load_language_model("heed-tiny")
    tokens = language_model.action_tokens(ACTION_TEXTS)
    assert all(len(action) == 1 for action in tokens)
    prompt = language_model.tokenizer.encode(tiny.TEMPLATE.format(observation=SEEN, instruction="go to the red ball"))
    with torch.no_grad():
        logits = language_model.model(torch.tensor([prompt])).logits[0, -1]
    probabilities = torch.softmax(logits[[action[0] for action in tokens]], dim=0)
    assert probabilities.min() > 0.5 / len(tokens)
    assert probabilities.max() < 2 / len(tokens)


def test_what_ships_knows_where_the_named_thing_is() -> None:
    language_model = load_language_model("heed-tiny")
    observations = corpus.collect_observations(per_level=60, seed=12345, levels=["BabyAI-GoToLocal-v0"])
    score = pretrain.grounding(language_model.model, language_model.tokenizer, observations, seed=0, in_sight_only=True)
    # The random model answers none of these right.
    assert score > 0.8
    card = json.loads((tiny.FOLDER / "card.json").read_text())
    assert card["scores"]["grounding_of_things_in_sight"] > 0.8
    assert card["parameters"] == sum(parameter.numel() for parameter in language_model.model.parameters())
    assert (tiny.FOLDER / "model.safetensors").stat().st_size < 8e6


def test_pretraining_writes_a_model_that_loads_and_is_the_same_for_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "LEVELS", ("BabyAI-GoToRedBall-v0",))
    monkeypatch.setattr(corpus.collect_observations, "__kwdefaults__", {"levels": corpus.LEVELS})
    scores = []
    for name in ("a", "b"):
        config = pretrain.PretrainConfig(out=tmp_path / name, steps=12, batch_size=4, per_level=80, held_out=10)
        scores.append(pretrain.pretrain(config))
    assert scores[0] == scores[1]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    loaded = load_language_model(str(tmp_path / "a"))
    text = next(iter(islice(corpus.documents([SEEN], questions=1, generator=random.Random(0)), 1)))
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    assert card["config"]["steps"] == 12
    options = "--steps 12 --batch-size 4 --per-level 80 --held-out 10"
    assert card["command"] == f"heed pretrain --out {tmp_path / 'a'} {options}"
