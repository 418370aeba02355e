"""An episode in other words: one wording for all that is said in it, by its seed; nothing else changes."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from heed.envs import Augmented, ChangingInstruction, History, check_env, make
from heed.envs.babyai.grammar import COLORS, is_of_the_grammar
from heed.envs.contract import expert_of, fulfilled_instructions_of, method_of
from heed.envs.make import make_env
from heed.envs.wording.augmented import INJECTED_SHARE, PLAIN, EpisodeWording
from heed.envs.wording.kinds import WORDINGS, data, ways_to_write
from heed.envs.wording.typos import mistyped, typos_of
from tests.buttons import Buttons
from tests.corridor import Corridor
from tests.ledger import THINGS, name_of
from tests.places import Places

LEVEL = "BabyAI-GoToLocal-v0"
EVERY = (*WORDINGS, "injected")


@pytest.fixture(scope="module")
def plain() -> Any:
    return make_env(LEVEL)


def seed_with(env: Any, **told: str) -> int:
    """Return a seed whose episode begins with this in its info."""
    return next(seed for seed in range(300) if told.items() <= env.reset(seed=seed)[1].items())


def test_a_quarter_of_the_episodes_is_plain_and_the_others_share_the_kinds_evenly(plain: Any) -> None:
    env = Augmented(plain, WORDINGS)
    kinds = Counter(env.reset(seed=seed)[1]["wording"] for seed in range(1200))
    assert kinds.pop("") / 1200 == pytest.approx(PLAIN, abs=0.04)
    assert set(kinds) == set(WORDINGS)
    assert all(count / 900 == pytest.approx(1 / len(WORDINGS), abs=0.04) for count in kinds.values())


def test_the_world_rewards_and_ends_are_those_of_the_plain_environment(plain: Any) -> None:
    env = Augmented(make_env(LEVEL), EVERY)
    for seed in range(40):
        actions = np.random.default_rng(seed).integers(0, 7, 40)
        beginning, own_beginning = env.reset(seed=seed), plain.reset(seed=seed)
        said = beginning[0]["instruction"]
        assert beginning[1]["instruction"] == own_beginning[0]["instruction"]
        for action in actions:
            ours, own = env.step(action), plain.step(action)
            assert ours[1:4] == own[1:4]
            assert ours[0]["instruction"] == said
            if ours[2] or ours[3]:
                assert ours[4]["is_success"] == own[4]["is_success"]
                assert ours[4]["shown"] == said
                break


def test_the_same_seed_says_the_same_whatever_was_played_before() -> None:
    one, other = (Augmented(make_env(LEVEL), EVERY) for _ in range(2))
    beginnings = [one.reset(seed=seed) for seed in range(30)]
    for seed in reversed(range(30)):
        assert other.reset(seed=seed) == beginnings[seed]
    assert len({words["instruction"] for words, _ in beginnings}) > 20


def test_groups_and_worker_processes_have_the_same_episodes() -> None:
    wrappers = [functools.partial(Augmented, names=EVERY)]
    grouped = make(LEVEL, n_envs=4, seed=0, group_size=2, wrappers=wrappers)
    words: Any = grouped.reset()
    assert words["instruction"][0] == words["instruction"][1] != words["instruction"][2]
    assert words["observation"][0] == words["observation"][1]
    here, there = (make(LEVEL, n_envs=4, seed=0, processes=count, wrappers=wrappers) for count in (1, 2))
    try:
        ours: Any = here.reset()
        theirs: Any = there.reset()
        for step in range(30):
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key])
            actions = np.random.default_rng(step).integers(0, 7, 4)
            ours, theirs = here.step(actions)[0], there.step(actions)[0]
    finally:
        there.close()


def test_what_an_episode_fulfilled_is_said_as_the_episode_says_it() -> None:
    env = Augmented(make_env(LEVEL), ("languages",))
    own = make_env(LEVEL)
    told: set[str] = set()
    for seed in range(30):
        _, info = env.reset(seed=seed)
        own.reset(seed=seed)
        wording = EpisodeWording(seed, ("languages",), info["instruction"])
        asks = [fulfilled_instructions_of(one) for one in (env, own)]
        assert asks[0]() == asks[1]() == {}
        for action in np.random.default_rng(seed).integers(0, 3, 30):
            step = env.step(action)
            own.step(action)
            ours, plain = asks[0](), asks[1]()
            assert ours == {wording.say(words): reward for words, reward in plain.items()}
            if info["wording"]:
                assert not any(is_of_the_grammar(words) for words in ours)
                told |= set(ours)
            else:
                assert ours == plain
            if step[2] or step[3]:
                break
    assert len(told) > 10


def test_what_else_could_be_done_is_said_so_too() -> None:
    env = Augmented(make_env(LEVEL), ("politeness",))
    seed = seed_with(env, wording="politeness")
    env.reset(seed=seed)
    listed = method_of(env, "possible_instructions")()
    inner = method_of(env.env, "possible_instructions")()
    assert len(listed) == len(inner) > 1
    assert not set(listed) & set(inner)
    assert all(any(words in said for words in inner) for said in listed)


def test_an_instruction_that_changes_midway_changes_in_the_same_wording() -> None:
    env = Augmented(ChangingInstruction(make_env(LEVEL), at=(2, 3)), ("languages",))
    changed = 0
    for seed in range(30):
        words, info = env.reset(seed=seed)
        first = env.env.reset(seed=seed)[0]["instruction"]
        wording = EpisodeWording(seed, ("languages",), first)
        assert words["instruction"] == wording.say(first)
        for _ in range(4):
            inner = env.env.shown if env.env.first_stands else env.env.true  # type: ignore[attr-defined]
            assert words["instruction"] == wording.say(inner)
            words, _, terminated, truncated, _ = env.step(0)
            if terminated or truncated:
                break
        changed += bool(info["wording"]) and words["instruction"] != wording.say(first)
    assert changed > 5


def test_the_expert_still_knows_the_way() -> None:
    env = Augmented(make_env(LEVEL), EVERY)
    expert = expert_of(env)
    assert expert is not None
    for seed in range(15):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(expert())
            over = terminated or truncated
        assert info["is_success"]


def test_any_environment_gets_what_needs_no_grammar() -> None:
    env = Augmented(Buttons(), WORDINGS)
    kinds = {env.reset(seed=seed)[1]["wording"] for seed in range(200)}
    # "red" is a color of BabyAI's: other words, and invented ones, can stand for it.
    assert kinds == {"", "paraphrase", "words", "typos", "case", "politeness", "renamed"}
    env = Augmented(Corridor(), WORDINGS)
    assert {env.reset(seed=seed)[1]["wording"] for seed in range(200)} == {
        "",
        "paraphrase",
        "typos",
        "case",
        "politeness",
    }
    assert all(check.passed for check in check_env(functools.partial(Augmented, Places(), EVERY)))


def test_renamed_words_are_renamed_in_all_that_is_read() -> None:
    env = Augmented(make_env(LEVEL), ("renamed",))
    invented = set(data("words")["invented"])
    seed = seed_with(env, wording="renamed")
    words, info = env.reset(seed=seed)
    seen = words["instruction"] + " " + words["observation"]
    assert not any(color in seen.split() for color in COLORS)
    assert invented & set(words["instruction"].split())
    own = make_env(LEVEL).reset(seed=seed)[0]
    names = dict(zip(own["instruction"].split(), words["instruction"].split(), strict=True))
    for plain, renamed in zip(own["observation"].split(), words["observation"].split(), strict=True):
        assert names.setdefault(plain, renamed) == renamed
    assert len(set(names.values())) == len(names)
    # Where observations list the actions, these too.
    env = Augmented(make_env(name_of("A", changing=True)), ("renamed",))
    words, info = env.reset(seed=seed_with(env, wording="renamed"))
    assert info["instruction"] in {f"take the {thing}" for thing in THINGS}
    assert words["instruction"] in words["actions"]
    assert not any(word in COLORS for text in words["actions"] for word in text.split())


def test_a_text_that_poses_as_an_instruction_is_in_every_observation_or_in_the_instruction() -> None:
    env, own = Augmented(make_env(LEVEL), ("injected",)), make_env(LEVEL)
    beginnings = [text.split("{")[0] for text in data("injected")["observation"]]
    seen = Counter[str]()
    for seed in range(300):
        words, _ = env.reset(seed=seed)
        plain, _ = own.reset(seed=seed)
        if words["observation"] != plain["observation"]:
            text = words["observation"].removesuffix(f"; {plain['observation']}")
            assert any(text.startswith(beginning) for beginning in beginnings)
            assert env.step(0)[0]["observation"] == f"{text}; {own.step(0)[0]['observation']}"
            assert words["instruction"] == plain["instruction"]
            other = next((one for one in method_of(own, "possible_instructions")() if one in text), None)
            assert other != plain["instruction"]
            seen["observation"] += 1
        elif words["instruction"] != plain["instruction"]:
            assert plain["instruction"] in words["instruction"]
            seen["instruction"] += 1
    assert seen.total() / 300 == pytest.approx(INJECTED_SHARE, abs=0.06)
    assert seen["observation"] > 2 * seen["instruction"] > 0
    # Where an environment does not tell what else could be done, the text gives an order of its own.
    env = Augmented(Buttons(), ("injected",))
    texts = {env.reset(seed=seed)[0]["observation"] for seed in range(60)} - {"three buttons"}
    assert texts
    assert all(any(order in text for order in data("injected")["orders"]) for text in texts)


def test_a_history_shows_what_the_agent_saw() -> None:
    env = History(Augmented(make_env(LEVEL), ("renamed",)), length=2)
    seed = seed_with(env, wording="renamed")
    first, _ = env.reset(seed=seed)
    assert env.step(0)[0]["observation"].startswith(first["observation"])


def test_typos_keep_to_the_keyboard_and_come_to_no_word_that_is_there() -> None:
    keys, more, digits, split = typos_of("lamp", ())
    assert keys == ["kamp", "lamo", "lanp", "lsmp"]
    assert more == ["lamnp", "lampo", "lasmp", "lkamp"]
    assert (digits, split) == (["1amp"], ["l amp", "la mp", "lam p"])
    assert typos_of("lamp", ("kamp", "amp"))[0] == ["lamo", "lanp", "lsmp"]
    assert typos_of("lamp", ("kamp", "amp"))[3] == ["la mp", "lam p"]
    assert mistyped("门口的", np.random.default_rng(0), valid=()) != ""
    wording = EpisodeWording(0, ("typos",), "take the lamp", seen="a kamp and a lanp")
    said = {
        EpisodeWording(seed, ("typos",), "take the lamp", "a kamp and a lanp").say("take the lamp")
        for seed in range(400)
    }
    assert wording.say("take the lamp") in said
    assert not any({"kamp", "lanp"} & set(words.split()) for words in said)
    assert any("lamo" in words for words in said)


def test_ways_to_write_by_hand() -> None:
    ways = ways_to_write("go to it")
    assert {"GO to it", "go to IT", "go TO it", "gO To iT", "gO tO iT", "go_to_it", "go-to-it", "[go to it]"} <= set(
        ways
    )
    assert not {"go to it", "GO TO IT", "Go To It", "Go to it"} & set(ways)
    assert "LOOK" not in ways_to_write("look")


def test_an_unknown_wording_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no wording 'longer': there are paraphrase, synonyms"):
        Augmented(Buttons(), ("typos", "longer"))
