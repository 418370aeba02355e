"""The pretraining of heed-words: its words, its scenes, and that it learns."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from heed.policies.models.use import USE_WIDTH
from heed.policies.words.building import SceneBuilder
from heed.policies.words.model import WordsConfig, WordsModel
from heed.policies.words.scene import INSTRUCTION
from heed.policies.words.vectors import MEANING, WordVectors
from tools.binding.__main__ import EVALUATED
from tools.binding.lexicon import Kind, Lexicon, load_lexicon, words_of_files
from tools.binding.phrases import HELD_OUT, TRAIN, Phrases
from tools.binding.pretrain import Binding, Training, accuracies, train, translated
from tools.binding.scenes import FAMILIES, HELD_OUT_FAMILIES, Drawer, Scene, draw, find_label, kind_of, name, ordinal

ROOT = Path(__file__).parents[2]


def wordnet(folder: Path) -> Path:
    """Write files as WordNet's: of each kind 80 made-up words in synsets of two, nouns below one of four others."""
    for kind, ending in (("noun", "on"), ("adj", "ish"), ("verb", "ate")):
        words = [
            f"{a}{b}{ending}" for a in "bdgklmnp" for b in ("ab", "ed", "ic", "om", "ul", "ar", "es", "in", "ot", "un")
        ]
        data, index = ["  1 a licence that nobody reads"], ["  1 a licence that nobody reads"]
        for number in range(0, len(words), 2):
            key = f"{number:08d}"
            pair = words[number : number + 2]
            above = f"1 @ {number % 8:08d} n 0000" if kind == "noun" and number >= 8 else "0"
            count = above.split()[0].zfill(3)
            pointers = above.split(maxsplit=1)[1] + " " if " " in above else ""
            data.append(f"{key} 05 n 02 {pair[0]} 0 {pair[1]} 0 {count} {pointers}| explained")
            index += [f"{word} n 1 1 @ 1 {number % 3} {key}" for word in pair]
        (folder / f"data.{kind}").write_text("\n".join(data) + "\n", encoding="utf-8")
        (folder / f"index.{kind}").write_text("\n".join(sorted(index)) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wordnet(tmp_path_factory.mktemp("wordnet"))


@pytest.fixture(scope="module")
def lexicon(folder: Path) -> Lexicon:
    return load_lexicon(folder, "train")


def test_words_are_trained_on_or_held_out(folder: Path, lexicon: Lexicon) -> None:
    held_out = load_lexicon(folder, "held out")
    kinds: tuple[Kind, ...] = ("noun", "adj", "verb")
    for kind in kinds:
        assert not set(lexicon.words[kind]) & set(held_out.words[kind])
        assert len(lexicon.words[kind]) > 4 * len(held_out.words[kind]) > 0
        assert all(zlib.crc32(word.encode()) % 10 == 0 for word in held_out.words[kind])


def test_words_of_evaluations_are_held_out(folder: Path, lexicon: Lexicon) -> None:
    word = lexicon.words["noun"][3]
    assert word not in load_lexicon(folder, "train", evaluated={word}).words["noun"]
    assert word in load_lexicon(folder, "held out", evaluated={word}).words["noun"]


def test_the_files_of_evaluations_are_where_the_pretraining_looks() -> None:
    evaluated = words_of_files(path for pattern in EVALUATED for path in ROOT.glob(pattern))
    assert {"crimson", "orb", "crate", "grab", "balle", "samovar", "quimbat", "lamp", "vase"} <= evaluated


def test_a_word_knows_its_synonyms_and_what_it_is_a_kind_of(lexicon: Lexicon) -> None:
    assert lexicon.synonyms("noun", "babon") == ["bedon"]
    assert lexicon.kinds_of("kabon") == ["00000006"]  # the 31st synset, number 62 at that: 62 % 8


@pytest.mark.parametrize("phrases", [TRAIN, HELD_OUT])
@pytest.mark.parametrize("family", [*FAMILIES, *HELD_OUT_FAMILIES])
def test_scenes_have_one_right_action(family: Callable[[Drawer], Scene], phrases: Phrases, lexicon: Lexicon) -> None:
    drawer = Drawer(lexicon, phrases, seed=0)
    places = set()
    for _ in range(25):
        scene = family(drawer)
        assert scene.actions.count(scene.actions[scene.right]) == 1
        assert scene.instruction.strip()
        assert scene.observation.strip()
        assert "{" not in scene.instruction + scene.observation + "".join(scene.actions)
        places.add(scene.right)
    assert len(places) > 1  # not always the same place


def test_scenes_are_those_of_the_seed(lexicon: Lexicon) -> None:
    drawn = [[draw(Drawer(lexicon, TRAIN, seed)) for _ in range(3)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_right_label_is_that_of_the_thing(lexicon: Lexicon) -> None:
    drawer = Drawer(lexicon, TRAIN._replace(instructions=("{x}",), labelled=("{l}: {t}",), choices=("{t}",)), seed=0)
    checked = 0
    for _ in range(200):
        scene = find_label(drawer)
        named = re.fullmatch(r"the (\w+ish \w+on)", scene.instruction)
        segments = re.split("; |\\. |\n|, ", scene.observation)
        told = [segment for segment in segments if named and segment.endswith(f": {named[1]}")]
        if told:  # neither misspelt nor in other words
            assert told == [f"{scene.actions[scene.right]}: {named[1] if named else ''}"]
            checked += 1
    assert checked > 20


def test_the_right_thing_is_the_one_at_the_place_that_is_named(lexicon: Lexicon) -> None:
    drawer = Drawer(lexicon, TRAIN._replace(instructions=("{x}",), choices=("{t}",)), seed=0)
    names = {"first": 0, "second": 1, "third": 2, "last": -1}
    checked = 0
    for _ in range(200):
        scene = ordinal(drawer)
        place = next((place for word, place in names.items() if f"the {word}" in scene.instruction), None)
        if place is not None:
            things = re.split(", |; ", scene.observation.rpartition(": ")[2])
            assert things[place] == scene.actions[scene.right]
            checked += 1
    assert checked > 20


def test_the_right_thing_is_of_the_kind_that_is_named(lexicon: Lexicon) -> None:
    drawer = Drawer(lexicon, TRAIN._replace(choices=("{t}",)), seed=0)
    for _ in range(50):
        scene = kind_of(drawer)
        kinds = {noun: set(lexicon.kinds_of(noun)) for noun in scene.actions}
        words = {word for key in kinds[scene.actions[scene.right]] for word in lexicon.synsets["noun", key].words}
        assert words & set(scene.instruction.split())


def by_letters(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a vector of each text, the same for the same text: an encoder that knows nothing."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(USE_WIDTH) for text in texts]
    vectors: npt.NDArray[np.float32] = (np.array(rows) / USE_WIDTH**0.5).astype(np.float32)
    return vectors


def new_binding() -> Binding:
    torch.manual_seed(0)
    model = WordsModel(WordsConfig(hidden_size=32, num_hidden_layers=2))
    vectors = WordVectors(np.zeros(MEANING, dtype=np.float32), by_letters)
    return Binding(model, SceneBuilder(vectors), np.random.default_rng(0))


def test_it_learns_to_choose_what_is_named(lexicon: Lexicon) -> None:
    binding = new_binding()
    drawer = Drawer(lexicon, TRAIN, seed=0)
    scored = [name(drawer) for _ in range(60)]
    before, _, chance = accuracies(binding, scored)
    training = Training(steps=30, batch_size=16, learning_rate=3e-3, warmup=5)
    losses = [loss for _, loss in train(binding, lambda: name(drawer), training)]
    after, _, _ = accuracies(binding, scored)
    assert len(losses) == 30
    assert 0.15 < chance < 0.35
    assert after > max(before, chance) + 0.2
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_a_translation_means_about_the_same_and_is_spelt_anew(lexicon: Lexicon) -> None:
    binding = new_binding()
    scene = draw(Drawer(lexicon, TRAIN, seed=0))
    prompts = binding.builder.split([f"{scene.instruction}\n{scene.observation}"] * 40)
    built = binding.builder.build(prompts, scene.actions, np.tile(np.arange(len(scene.actions)), (40, 1)))
    changed = translated(built, np.random.default_rng(0))
    told = (built.part == INSTRUCTION) & built.real
    assert torch.equal(changed.words[~told], built.words[~told])
    is_translated = (changed.words != built.words).any(dim=1)
    assert 4 < int(is_translated.sum()) < 22
    old, new = (s.vectors[s.words[is_translated]][told[is_translated]] for s in (built, changed))
    meaning, spelling = ((old[:, part] * new[:, part]).sum(dim=1) for part in (slice(MEANING), slice(MEANING, None)))
    assert float(meaning.min()) > 0.45
    assert float(meaning.max()) < 1.0
    assert float(spelling.abs().max()) < 0.6
