"""Axes that say the instruction in other words: BabyAI's grammar, languages, synonyms, typos, words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml

from heed.envs.babyai.grammar import COLORS, KINDS, PLACES, Action, GrammarError, Sequence, Thing, parse
from heed.envs.make import instruction_pool
from heed.envs.wording.words import replacer
from heed.evaluation.axes import AxisDoesNotApplyError, Language, LanguageDataError, axis, examples
from heed.evaluation.axes.files import FOLDER
from heed.evaluation.axes.wording import Rewording, with_typo
from heed.policies.models.loading import load_language_model

LEVELS = (
    "BabyAI-ActionObjDoor-v0",
    "BabyAI-BossLevel-v0",
    "BabyAI-FindObjS5-v0",
    "BabyAI-GoToDoor-v0",
    "BabyAI-GoToLocal-v0",
    "BabyAI-GoToSeqS5R2-v0",
    "BabyAI-KeyCorridorS3R1-v0",
    "BabyAI-MiniBossLevel-v0",
    "BabyAI-MoveTwoAcrossS5N2-v0",
    "BabyAI-OpenDoorLoc-v0",
    "BabyAI-OpenDoorsOrderN4-v0",
    "BabyAI-PickupDist-v0",
    "BabyAI-PickupLoc-v0",
    "BabyAI-PutNextLocal-v0",
    "BabyAI-SynthLoc-v0",
    "BabyAI-UnlockLocal-v0",
)
BALL = "go to the red ball"


@pytest.fixture(scope="module")
def instructions() -> list[str]:
    """What many levels ask for."""
    return sorted({words for level in LEVELS for words in instruction_pool(level)})


def reworded(name: str, instruction: str, seeds: int = 60, **parameters: Any) -> set[str]:
    """What an axis makes of some words, over some seeds."""
    made = axis(name, **parameters)
    assert isinstance(made, Rewording)
    return {made.reword(instruction, np.random.default_rng(seed)) for seed in range(seeds)}


def test_all_instructions_come_back_from_their_parts(instructions: list[str]) -> None:
    assert len(instructions) > 400
    for words in instructions:
        assert str(parse(words)) == words
    orders = {re.sub(r"Sequence\(order='(\w+)'.*", r"\1", repr(parse(words))) for words in instructions}
    assert {"and", "then", "after"} < orders


def test_the_parts_of_an_instruction() -> None:
    ball = Thing(article="a", color="red", kind="ball", place="on your left")
    go = Action(verb="go to", thing=ball)
    put = Action(verb="put", thing=Thing(article="the", kind="object"), beside=ball)
    assert parse("go to a red ball on your left") == go
    assert parse("put the object next to a red ball on your left") == put
    words = "put the object next to a red ball on your left and go to a red ball on your left after you open the door"
    opened = Action(verb="open", thing=Thing(article="the", kind="door"))
    assert parse(words) == Sequence(order="after", first=Sequence(order="and", first=put, second=go), second=opened)


@pytest.mark.parametrize(
    "words",
    [
        *("", "go to", "go to red ball", "go to the red red ball", "go to the ball red", "put the ball", "win"),
        *(
            "go to the ball next to",
            "go to the ball beside the box",
            "go to the ball, then",
            "Go to the ball",
            "go to the ball and win",
        ),
        "go to the ball, then open the door, then open the door",
    ],
)
def test_what_is_not_of_the_grammar_is_told(words: str) -> None:
    with pytest.raises(GrammarError, match="is no instruction of BabyAI's grammar"):
        parse(words)


@pytest.mark.parametrize(
    ("english", "french", "chinese"),
    [
        (BALL, "va jusqu'à la balle rouge", "走到红色的球那里"),
        ("pick up a green key", "ramasse une clé verte", "捡起一把绿色的钥匙"),
        ("pick up the green object", "ramasse l'objet vert", "捡起绿色的物品"),
        ("pick up a grey object", "ramasse un objet gris", "捡起一件灰色的物品"),
        ("open the grey door", "ouvre la porte grise", "打开灰色的门"),
        ("open a door on your left", "ouvre une porte à ta gauche", "打开你左边的一扇门"),
        ("go to the blue box behind you", "va jusqu'à la boîte bleue derrière toi", "走到你后面的蓝色的盒子那里"),
        (
            "put the yellow ball next to the purple object",
            "mets la balle jaune à côté de l'objet violet",
            "把黄色的球放到紫色的物品旁边",
        ),
        ("put a box next to a key", "mets une boîte à côté d'une clé", "把一个盒子放到一把钥匙旁边"),
        (
            "go to the ball, then open the purple door in front of you",
            "va jusqu'à la balle, puis ouvre la porte violette devant toi",
            "走到球那里，然后打开你前面的紫色的门",
        ),
        (
            "pick up the key and go to the box after you open a door and put the key next to an_object",
            "ramasse la clé et va jusqu'à la boîte après avoir ouvert une porte et avoir mis la clé à côté d'un objet",
            "打开一扇门，并且把钥匙放到一件物品旁边之后，捡起钥匙，并且走到盒子那里",
        ),
        (
            "open the door after you go to the ball on your right",
            "ouvre la porte après être allé jusqu'à la balle à ta droite",
            "走到你右边的球那里之后，打开门",
        ),
        (
            "open the door after you pick up the key",
            "ouvre la porte après avoir ramassé la clé",
            "捡起钥匙之后，打开门",
        ),
    ],
)
def test_french_and_chinese_by_hand(english: str, french: str, chinese: str) -> None:
    words = english.replace("an_object", "a object")  # BabyAI writes no "an"
    assert reworded("french", words, 2) == {french}
    assert reworded("chinese", words, 2) == {chinese}


@pytest.mark.parametrize("name", ["french", "chinese"])
def test_different_instructions_stay_different_in_another_language(name: str, instructions: list[str]) -> None:
    said = [axis(name).reword(words, np.random.default_rng(0)) for words in instructions]  # type: ignore[attr-defined]
    assert len(set(said)) == len(instructions)
    english = re.compile(rf"\b({'|'.join([*COLORS, *KINDS, *PLACES, 'the', 'go', 'pick'])})\b")
    # "objet" and "object" are two words, and so are all others.
    assert not [words for words in said if english.search(words) or "  " in words or " ," in words]


@pytest.mark.parametrize("name", ["french", "chinese"])
def test_heed_tiny_reads_any_language(name: str, instructions: list[str]) -> None:
    language_model = load_language_model("heed-tiny")
    words = [axis(name).reword(text, np.random.default_rng(0)) for text in instructions[:50]]  # type: ignore[attr-defined]
    for text in words:
        tokens = language_model.tokenizer(text)["input_ids"]
        assert language_model.tokenizer.decode(tokens) == text


def test_synonyms_change_the_verb_and_nothing_else(instructions: list[str]) -> None:
    assert reworded("synonyms", BALL) > {"walk to the red ball", "approach the red ball"}
    assert "fetch a key" in reworded("synonyms", "pick up a key")
    for words in instructions:
        (said,) = reworded("synonyms", words, 1)
        things = re.compile(rf"(?:a|the)(?: (?:{'|'.join(COLORS)}))? (?:{'|'.join(KINDS)})\b")
        assert things.findall(said) == things.findall(words)
        assert not re.search(r"\b(go to|pick up|next to)\b", said)
        assert [joint in said for joint in (", then ", " after you ", " and ")] == [
            joint in words for joint in (", then ", " after you ", " and ")
        ]


def test_paraphrases_order_the_words_anew_or_are_polite() -> None:
    said = reworded("paraphrase", "pick up the red ball", 200)
    assert {"pick the red ball up", "please pick up the red ball", "could you pick up the red ball?"} < said
    assert len(said) == 18  # 14 ways to be polite, 4 to order the words
    assert "pick up the red ball" not in said
    then = reworded("paraphrase", "open the door, then go to the key", 200)
    assert "go to the key after you open the door" in then
    assert "open the door before you go to the key" in then
    after = reworded("paraphrase", "open the door after you go to the key", 200)
    assert "go to the key, then open the door" in after
    assert "open the door before you go to the key" not in after


def test_a_typo_swaps_drops_or_doubles_letters() -> None:
    generator = np.random.default_rng(0)
    found = {with_typo("box", generator, valid={"bo"}) for _ in range(200)}
    assert found == {"obx", "bxo", "ox", "bx", "bbox", "boox", "boxx"}
    assert {with_typo("Aa", generator, valid=set()) for _ in range(50)} == {"aA", "a", "A", "AAa", "Aaa"}


def test_typos_are_in_some_words_and_make_no_other_word() -> None:
    said = reworded("typos", BALL, 300)
    assert BALL not in said
    for words in said:
        go, to, the, red, ball = words.split(" ")
        assert (go, to) == ("go", "to")  # too short
        for typo, word in ((the, "the"), (red, "red"), (ball, "ball")):
            assert typo == word or typo not in {"a", "the", "red", "ball", "box", "on", "you"}
    changed = [sum(a != b for a, b in zip(words.split(), BALL.split(), strict=True)) for words in said]
    assert {1, 2, 3} == set(changed)
    everywhere = reworded("typos", BALL, 20, share=1)
    assert all(sum(a != b for a, b in zip(words.split(), BALL.split(), strict=True)) == 3 for words in everywhere)


def test_a_levels_own_words_come_from_no_typo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of "planet" and "plane", a typo makes none of the other."""

    class Words(gymnasium.Env[Any, Any]):
        action_texts = ("wait",)
        action_space = gymnasium.spaces.Discrete(1)

        def __init__(self) -> None:
            from heed.envs.contract import language_space

            self.observation_space = language_space()

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            return {"instruction": self.np_random.choice(["planet", "plane"]), "observation": ""}, {}

    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register("Planets-v0", lambda **_: Words())
    shown = {example.shown for example in examples(axis("typos"), "Planets-v0", seeds=range(80))}
    assert not shown & {"planet", "plane"}
    assert "lpane" in shown


def test_case_and_punctuation_leave_the_letters() -> None:
    said = reworded("case-and-punctuation", BALL)
    assert {"GO TO THE RED BALL", "Go to the red ball.", "Go To The Red Ball"} < said
    assert {re.sub(r"[^a-z ]", "", words.lower()) for words in said} == {BALL}
    assert BALL not in said
    assert "GO!" not in reworded("case-and-punctuation", "GO!")


def test_unseen_words_are_of_the_instruction_alone() -> None:
    said = reworded("unseen-words", "go to an_orange, a red ball and a red box", 300)
    assert {words.split(", ")[0] for words in said} == {"go to an_orange"}
    assert "go to an_orange, a crimson ball and a crimson box" in said  # the same word twice becomes the same
    assert "go to an_orange, a red orb and a red crate" in said
    assert "go to an_orange, a scarlet sphere and a scarlet carton" in said
    assert {"red" in words for words in reworded("unseen-words", BALL, words="nouns")} == {True}
    assert {"ball" in words for words in reworded("unseen-words", BALL, words="colors")} == {True}
    assert "pick up an azure object" in reworded("unseen-words", "pick up a blue object")
    assert reworded("unseen-words", "win") == {"win"}
    for example in examples(axis("unseen-words"), "BabyAI-GoToLocal-v0", seeds=range(3)):
        assert not re.search("crimson|orb|azure|crate", example.observation)


def test_unseen_words_are_none_of_any_level(instructions: list[str]) -> None:
    words = yaml.safe_load((FOLDER / "words.yaml").read_text("utf-8"))
    ours = {word for kind in words["unseen"].values() for several in kind.values() for word in several}
    ours |= set(words["invented"].values())
    assert not ours & set(re.findall(r"\w+", " ".join(instructions)))
    assert len(ours) == sum(len(several) for kind in words["unseen"].values() for several in kind.values()) + 10


def test_renamed_words_are_renamed_everywhere_and_stay_apart() -> None:
    plain = list(examples(axis("true"), "BabyAI-GoToLocal-v0", seeds=range(20)))
    renamed = list(examples(axis("renamed-words"), "BabyAI-GoToLocal-v0", seeds=range(20)))
    names = yaml.safe_load((FOLDER / "words.yaml").read_text("utf-8"))["invented"]
    back = replacer({name: word for word, name in names.items()})
    for before, after in zip(plain, renamed, strict=True):
        for key in ("instruction", "observation"):
            text = getattr(after, key)
            assert not re.search(rf"\b({'|'.join(names)})\b", text)
            assert back(text) == getattr(before, key)
    swapped = axis("renamed-words", words={"red": "blue", "blue": "red"})
    for before, after in zip(plain, examples(swapped, "BabyAI-GoToLocal-v0", seeds=range(20)), strict=True):
        letters = before.observation.replace("red", "R").replace("blue", "red").replace("R", "blue")
        assert after.observation == letters


def test_replaced_words_have_the_right_article() -> None:
    replace: Callable[[str], str] = replacer({"ball": "orb", "blue": "azure", "orange": "red"})
    assert replace("a ball, a red ball, a blue ball, an orange ball") == "an orb, a red orb, an azure orb, a red orb"
    assert replace("football and balls") == "football and balls"


def test_a_language_says_something_of_everything() -> None:
    for path in FOLDER.glob("*.yaml"):
        if path.stem in ("french", "chinese", "synonyms", "paraphrases"):
            language = Language(path)
            for color, kind in itertools.product(COLORS, KINDS):
                said = language.say(Action(verb="go to", thing=Thing(article="the", color=color, kind=kind)))
                assert said
                assert "{" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("clauses"), "has no section `clauses`"),
        (lambda data: data["clauses"].pop("open"), "`clauses` has nothing for 'open'"),
        (lambda data: data["nouns"].pop("key"), "`nouns` has nothing for 'key'"),
        (lambda data: data["colors"].pop("grey"), "`colors` has nothing for 'grey'"),
        (lambda data: data["nouns"]["key"].pop("the"), "there is no 'the'"),
        (lambda data: data["nouns"]["key"].update(gender="neuter"), "there is no 'neuter'"),
        (lambda data: data["clauses"].update(open="ouvre"), "'ouvre' lacks {thing}"),
        (lambda data: data["clauses"].update(put="mets {thing}"), "'mets {thing}' lacks {beside}"),
        (lambda data: data["clauses"].update(open="ouvre {beside} {thing}"), "there is no 'beside'"),
        (lambda data: data["sequences"].update({"and": "{first}"}), "'{first}' lacks {second}"),
        (lambda data: data["nouns"]["key"].update(word="balle"), "the same words for different things"),
        (lambda data: data.update(verbs={}), "`verbs` is no section of a language"),
    ],
)
def test_what_is_wrong_in_a_languages_file_is_told(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    data = yaml.safe_load((FOLDER / "french.yaml").read_text("utf-8"))
    change(data)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with pytest.raises(LanguageDataError, match=re.escape(message)) as raised:
        Language(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(raised.value)


def test_a_file_that_is_no_language_is_told(tmp_path: Path) -> None:
    for text, message in (("a: [", "cannot be read"), ("- a", "is no mapping of sections")):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(LanguageDataError, match=message):
            Language(tmp_path / "mine.yaml")
    with pytest.raises(LanguageDataError, match="cannot be read"):
        Language(tmp_path / "none.yaml")


def test_short_words_have_no_typos() -> None:
    with pytest.raises(AxisDoesNotApplyError, match="needs a word of 3 letters, and 'go' has none"):
        axis("typos").require(["go to her", "go"])  # type: ignore[attr-defined]
