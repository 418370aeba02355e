"""The corpus asks about what is there and answers right; pretraining writes what `heed-tiny` is loaded from."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from heed.envs.babyai.words import ACTION_TEXTS
from heed.envs.make import make_env
from heed.policies.models import tiny
from heed.policies.models.loading import load_language_model
from tools import corpus, pretrain

SEEN = "red ball 2 left 3 ahead; closed grey door 1 right 4 ahead; red ball 3 ahead; wall 4 ahead; carrying blue key"


SCENE = corpus.Scene(
    observation=SEEN,
    past=(("wall 3 ahead", "turn left"), ("red ball 3 left 2 ahead", "go forward")),
)


def test_things_are_found_with_their_places_the_nearest_first() -> None:
    places = [("red ball", "2 left 3 ahead"), ("grey door", "1 right 4 ahead"), ("red ball", "3 ahead")]
    assert corpus.things_in(SEEN) == places
    assert corpus.things_in("nothing") == []
    assert corpus.carried_in(SEEN) == "blue key"
    assert corpus.carried_in("red ball 3 ahead") is None


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


def test_what_is_carried_is_to_be_put_next_to_the_second_thing() -> None:
    generator = random.Random(0)
    puts = [question for question in (corpus.ask(SEEN, generator) for _ in range(2000)) if "next to" in question.text]
    carried = [question for question in puts if question.text.startswith("put the blue key next to")]
    assert carried
    assert all(question.text.endswith(question.thing) for question in carried)
    assert all(
        question.text.split(" next to ")[0].endswith(question.thing) for question in puts if question not in carried
    )


@pytest.mark.parametrize(
    ("start", "sides"),
    [
        # The ball is 2 left and 3 ahead, or 3 straight ahead; the sides are of the agent as it began.
        ("here facing ahead", {"on your left": "2 left 3 ahead", "in front of you": "2 left 3 ahead"}),
        ("3 left facing ahead", {"on your right": "2 left 3 ahead", "in front of you": "2 left 3 ahead"}),
        ("5 ahead facing right", {"on your right": "2 left 3 ahead", "behind you": "2 left 3 ahead"}),
        (
            "1 left facing left",
            {"in front of you": "2 left 3 ahead", "behind you": "3 ahead", "on your right": "2 left 3 ahead"},
        ),
        ("here facing behind", {"behind you": "2 left 3 ahead", "on your right": "2 left 3 ahead"}),
    ],
)
def test_sides_are_of_where_the_episode_began(start: str, sides: dict[str, str]) -> None:
    generator = random.Random(0)
    observation = f"red ball 2 left 3 ahead; red ball 3 ahead; wall 4 ahead; start {start}"
    found: dict[str, str] = {}
    for _ in range(2000):
        question = corpus.ask(observation, generator)
        for side in corpus.SIDES:
            if f"red ball {side}" in question.text and question.thing == "red ball":
                found.setdefault(side, question.place)
                assert found[side] == question.place
    assert found == {side: sides.get(side, corpus.ABSENT) for side in corpus.SIDES}


def test_sides_are_those_that_babyai_means() -> None:
    """The things on a side, by the level's own rule, are those whose places the corpus's rule picks."""
    env = make_env("BabyAI-PickupLoc-v0")
    asked = 0
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        for action in (2, 0, 2, 1):
            description = env.unwrapped.instrs.desc  # type: ignore[attr-defined]
            start = corpus._START.search(observation["observation"])
            if description.loc is not None and start is not None:
                side = next(words for words in corpus.SIDES if observation["instruction"].endswith(words))
                meant = {
                    place
                    for name, place in corpus.things_in(observation["observation"])
                    if name.split()[0] == (description.color or name.split()[0])
                    and name.split()[1] == (description.type or name.split()[1])
                    and corpus._is_on(side, place, start["place"], start["facing"])
                }
                asked += 1
                assert meant == _in_sight(env.unwrapped, description.obj_poss)
            observation, *_ = env.step(action)
    assert asked > 40


def _in_sight(level: Any, positions: Sequence[Any]) -> set[str]:
    """Return the places, in the agent's frame, of those positions that the agent sees."""
    _, visible = level.gen_obs_grid()
    places = set()
    for position in positions:
        seen = level.relative_coords(*position)
        if seen is not None and visible[seen] and tuple(position) != tuple(level.agent_pos):
            across, ahead = seen[0] - 3, 6 - seen[1]
            parts = [f"{abs(across)} {'left' if across < 0 else 'right'}"] * bool(across) + [f"{ahead} ahead"] * bool(
                ahead
            )
            places.add(" ".join(parts))
    return places


def test_unseen_combinations_are_not_named() -> None:
    generator = random.Random(0)
    observation = "purple key 1 ahead; yellow ball 1 left; grey box 2 ahead; red ball 2 left; carrying purple key"
    texts = [corpus.ask(observation, generator).text for _ in range(1000)]
    assert not any(pair in text for text in texts for pair in corpus.UNSEEN_PAIRS)
    named = [corpus.ask(observation, generator, pairs=corpus.UNSEEN_PAIRS).thing for _ in range(100)]
    assert set(corpus.UNSEEN_PAIRS) <= set(named)


def test_places_are_said_in_either_order() -> None:
    generator = random.Random(0)
    assert {corpus.answer("2 left 3 ahead", generator) for _ in range(20)} == {"2 left 3 ahead", "3 ahead 2 left"}
    assert corpus.answer("3 ahead", generator) == "3 ahead"


def test_documents_have_the_form_of_heed_tinys_prompts() -> None:
    document = next(corpus.documents([SCENE], questions=2, generator=random.Random(3)))
    lines = document.split("\n")
    assert lines[0] == f" {SEEN}"
    assert len(lines) == 6
    assert document.startswith(tiny.TEMPLATE.format(observation=SEEN, instruction=lines[1].strip()))


def test_a_scenes_transcript_is_what_a_history_shows() -> None:
    assert SCENE.transcript(0) == SEEN
    assert SCENE.transcript(1) == f"red ball 3 left 2 ahead\n> go forward: {SEEN}"
    assert SCENE.transcript(9).startswith("wall 3 ahead\n> turn left: red ball 3 left")
    env = make_env("BabyAI-GoToLocal-v0", history=2)
    plain = make_env("BabyAI-GoToLocal-v0")
    past: list[tuple[str, str]] = []
    shown, seen = env.reset(seed=3)[0], plain.reset(seed=3)[0]
    for action in (0, 2, 1):
        scene = corpus.Scene(observation=seen["observation"], past=tuple(past))
        assert shown["observation"] == scene.transcript(len(past))
        past.append((seen["observation"], ACTION_TEXTS[action]))
        shown, seen = env.step(action)[0], plain.step(action)[0]


def test_scenes_are_different_and_the_same_for_the_same_seed() -> None:
    levels = ["BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0"]
    scenes = corpus.collect_scenes(per_level=40, seed=5, levels=levels)
    assert scenes == corpus.collect_scenes(per_level=40, seed=5, levels=levels)
    assert scenes != corpus.collect_scenes(per_level=40, seed=6, levels=levels)
    words = [scene.observation for scene in scenes]
    assert len(set(words)) == len(words) >= 80
    assert {len(scene.past) for scene in scenes} == set(range(corpus.MOST_PAST + 1))


def test_what_the_agent_did_is_not_learnt() -> None:
    tokenizer = load_language_model("heed-tiny").tokenizer
    text = f" {SCENE.transcript(2)}\n where is the red ball\n 2 left 3 ahead\n"
    (tokens, labels) = next(pretrain._batches(cast(Any, tokenizer), iter([text, " wall 3 ahead\n"]), 2))
    left_out = [tokenizer.decode([token]) for token in tokens[1][labels[1] == pretrain.IGNORED]]
    assert left_out == [" turn left", " go forward"]
    kept = labels[0] != pretrain.IGNORED
    assert tokenizer.decode(tokens[0][kept]) == " wall 3 ahead\n"
    assert not kept[int(kept.sum()) :].any()


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
    scenes = corpus.collect_scenes(per_level=60, seed=12345, levels=["BabyAI-GoToLocal-v0"])
    score = pretrain.grounding(language_model.model, language_model.tokenizer, scenes, seed=0, in_sight_only=True)
    # The random model answers none of these right.
    assert score > 0.8
    card = json.loads((tiny.FOLDER / "card.json").read_text())
    assert card["scores"]["grounding_of_things_in_sight"] > 0.8
    assert card["parameters"] == sum(parameter.numel() for parameter in language_model.model.parameters())
    assert (tiny.FOLDER / "model.safetensors").stat().st_size < 8e6


def test_pretraining_writes_a_model_that_loads_and_is_the_same_for_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "TOKENIZED", 400)
    monkeypatch.setattr(corpus, "LEVELS", ("BabyAI-GoToRedBall-v0",))
    monkeypatch.setattr(corpus.collect_scenes, "__kwdefaults__", {"levels": corpus.LEVELS})
    scores = []
    for name in ("a", "b"):
        config = pretrain.PretrainConfig(out=tmp_path / name, steps=12, batch_size=4, per_level=40, held_out=10)
        scores.append(pretrain.pretrain(config))
    assert scores[0] == scores[1]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    loaded = load_language_model(str(tmp_path / "a"))
    text = next(iter(islice(corpus.documents([SCENE], questions=1, generator=random.Random(0)), 1)))
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    assert card["config"]["steps"] == 12
    options = "--steps 12 --batch-size 4 --per-level 40 --held-out 10"
    assert card["command"] == f"python -m tools.pretrain --out {tmp_path / 'a'} {options}"
