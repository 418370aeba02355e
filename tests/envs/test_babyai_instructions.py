"""What an episode is said to fulfil is what BabyAI's levels themselves find fulfilled."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from minigrid.core.constants import COLOR_NAMES
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling
from minigrid.envs.babyai.core.verifier import (
    LOC_NAMES,
    OBJ_TYPES,
    GoToInstr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from heed.envs.babyai.reach import Reach
from heed.envs.make import make, make_env

ONE_ROOM = ("BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-PickupDist-v0", "BabyAI-PutNextLocal-v0")
"""Levels in which nothing is behind a door."""

CHANCES = [0.12, 0.12, 0.4, 0.14, 0.1, 0.1, 0.02]
"""Of MiniGrid's actions, so that something happens."""


def play(level_id: str, seed: int, steps: int = 150) -> tuple[list[int], list[dict[str, float]], dict[str, Any]]:
    """Play at random; return the actions, what each step fulfilled, and what became of the episode."""
    env = make_env(level_id)
    observation, _ = env.reset(seed=seed)
    fulfilled = env.get_wrapper_attr("fulfilled_instructions")
    assert fulfilled() == {}
    random = np.random.default_rng(seed)
    actions, told = [], []
    end: dict[str, Any] = {"instruction": observation["instruction"], "is_success": False}
    for _ in range(steps):
        actions.append(int(random.choice(7, p=CHANCES)))
        _, reward, terminated, truncated, info = env.step(actions[-1])
        told.append(fulfilled())
        if terminated or truncated:
            end |= {"is_success": info["is_success"], "reward": reward}
            break
    return actions, told, end


def alternatives(level: Any) -> Iterator[Any]:
    """Yield all that the level could have asked for in its own kind and wording, right after a reset."""
    own = level.instrs
    kind = type(own)
    if kind is not PutNextInstr:
        typed, colored, door = (own.desc.type is not None, own.desc.color is not None, own.desc.type == "door")
        types = [name for name in OBJ_TYPES if (name == "door") == door or not typed]
        for name in types if typed else [None]:
            for color in COLOR_NAMES if colored else [None]:
                for place in LOC_NAMES if own.desc.loc else [None]:
                    yield kind(ObjDesc(name, color, place), *([own.strict] if hasattr(own, "strict") else []))
        return
    things = [(name, color) for name in OBJ_TYPES if name != "door" for color in COLOR_NAMES]
    for move in things:
        for fixed in things:
            yield PutNextInstr(ObjDesc(*move), ObjDesc(*fixed))


def fulfilled_when_asked_for(level_id: str, seed: int, actions: list[int]) -> dict[str, tuple[int, float]]:
    """Give the level each of its other instructions, play the actions again, and see when the level is content."""
    found = {}
    env = make_env(level_id)
    level: Any = env.unwrapped
    env.reset(seed=seed)
    valid = []
    for index, instruction in enumerate(alternatives(level)):
        # Others match nothing, or BabyAI would not ask for them.
        with contextlib.suppress(AssertionError, RejectSampling):
            words = instruction.surface(level)
            level.validate_instrs(instruction)
            valid.append((index, words))
    for index, words in valid:
        env.reset(seed=seed)
        level.instrs = list(alternatives(level))[index]
        level.instrs.reset_verifier(level)
        for step, action in enumerate(actions):
            _, reward, terminated, truncated, _ = env.step(action)
            if terminated and float(reward) > 0:
                found[words] = (step, float(reward))
            if terminated or truncated:
                break
    return found


@pytest.mark.parametrize(
    ("level_id", "seeds", "at_least"),
    [
        ("BabyAI-GoToLocal-v0", 6, 10),
        ("BabyAI-GoToDoor-v0", 4, 4),
        ("BabyAI-GoToRedBallGrey-v0", 4, 4),
        ("BabyAI-PickupDist-v0", 8, 6),
        ("BabyAI-PickupDistDebug-v0", 8, 3),
        ("BabyAI-OpenDoorColor-v0", 4, 1),
        ("BabyAI-OpenDoorDebug-v0", 12, 1),
        ("BabyAI-PutNextLocalS5N3-v0", 20, 2),
        ("BabyAI-PickupLoc-v0", 6, 3),
        ("BabyAI-OpenDoorLoc-v0", 6, 2),
    ],
)
def test_what_is_told_is_what_the_level_finds_when_it_asks_for_it(level_id: str, seeds: int, at_least: int) -> None:
    number = 0
    for seed in range(seeds):
        actions, told, _ = play(level_id, seed)
        first = {words: (step, reward) for step, now in enumerate(told) for words, reward in now.items()}
        assert sum(map(len, told)) == len(first), "an instruction is told once"
        assert first == fulfilled_when_asked_for(level_id, seed, actions)
        number += len(first)
    assert number >= at_least


@pytest.mark.parametrize(
    "level_id",
    [
        "BabyAI-GoToLocal-v0",
        "BabyAI-GoToObjS4-v0",
        "BabyAI-PickupDist-v0",
        "BabyAI-OpenDoorColor-v0",
        "BabyAI-PutNextS4N1-v0",
        "BabyAI-PutNextS5N2Carrying-v0",
        "BabyAI-UnlockLocal-v0",
        "BabyAI-MiniBossLevel-v0",
        "BabyAI-MixedTrainLocal-v0",
        "BabyAI-GoToRelationLocal-v0",
        "BabyAI-GoToSeqS5R2-v0",
    ],
)
def test_the_episodes_own_instruction_is_named_when_it_is_fulfilled_and_not_before(level_id: str) -> None:
    successes = 0
    for seed in range(15):
        _, told, end = play(level_id, seed)
        own = [step for step, now in enumerate(told) if end["instruction"] in now]
        if any(word in end["instruction"] for word in (" and ", ", then ", " after you ")):
            assert own == []  # a sequence is told in parts
        elif end["is_success"]:
            assert own == [len(told) - 1]
            assert told[-1][end["instruction"]] == pytest.approx(end["reward"])
            successes += 1
        else:
            assert own == []
    if level_id not in ("BabyAI-MiniBossLevel-v0", "BabyAI-PutNextS5N2Carrying-v0", "BabyAI-UnlockLocal-v0"):
        assert successes > 0 or "Seq" in level_id


def test_of_a_sequence_the_parts_are_told_with_the_reward_of_their_own_time() -> None:
    env = make_env("BabyAI-GoToSeqS5R2-v0")
    level: Any = env.unwrapped
    fulfilled = env.get_wrapper_attr("fulfilled_instructions")
    places = 0
    for seed in range(20):
        env.reset(seed=seed)
        places = level.num_navs_needed(level.instrs)
        fulfilled()
        random = np.random.default_rng(seed)
        for step in range(1, 40):
            env.step(int(random.choice(7, p=CHANCES)))
            now = fulfilled()
            if now and places > 1:
                # The time of an instruction goes with the places that it sends the agent to.
                expected = 1 - 0.9 * step / (level.max_steps / places)
                assert list(now.values()) == pytest.approx([expected] * len(now))
                assert all(words.startswith("go to ") and "," not in words for words in now)
                return
    raise AssertionError("no part of a sequence was fulfilled")


def test_where_an_instruction_speaks_of_a_place_so_do_all_that_are_told() -> None:
    """The observations tell where such an episode began, as they do under no other instruction."""
    env = make_env("BabyAI-SynthSeq-v0")
    possible = env.get_wrapper_attr("possible_instructions")
    mixed = 0
    for seed in range(30):
        own = env.reset(seed=seed)[0]["instruction"]
        speaks = [" your " in part or " of you" in part or "behind you" in part for part in parts_of(own)]
        assert all(("you" in words) == any(speaks) for words in possible())
        mixed += any(speaks) and not all(speaks)
    assert mixed > 3


def parts_of(instruction: str) -> list[str]:
    """The single instructions of a sequence."""
    return re.split(", then | after you | and ", instruction)


@pytest.mark.parametrize(
    "level_id",
    [
        "BabyAI-GoToLocal-v0",
        "BabyAI-PickupLoc-v0",
        "BabyAI-PickupDist-v0",
        "BabyAI-PutNextLocal-v0",
        "BabyAI-OpenDoorLoc-v0",
        "BabyAI-GoToSeqS5R2-v0",
        "BabyAI-MiniBossLevel-v0",
        "BabyAI-MixedTrainLocal-v0",
    ],
)
def test_possible_are_the_instructions_that_the_level_finds_valid_and_impossible_those_without_a_thing(
    level_id: str,
) -> None:
    env = make_env(level_id)
    level: Any = env.unwrapped
    possible_seen = impossible_seen = 0
    for seed in range(10):
        own = env.reset(seed=seed)[0]["instruction"]
        possible = env.get_wrapper_attr("possible_instructions")()
        impossible = env.get_wrapper_attr("impossible_instructions")()
        assert list(possible) == sorted(set(possible))
        assert not set(parts_of(own)) & set(possible)
        if len(parts_of(own)) == 1 and level_id in ONE_ROOM:
            assert set(possible) == valid(level) - done_at_the_start(level)
        elif len(parts_of(own)) == 1:
            assert set(possible) <= valid(level)
        possible_seen += bool(possible)
        for words in impossible:
            assert words not in possible
            # BabyAI itself finds nothing under the description, but where "next to" stands beside one that is there.
            matches = [found_by_the_level(level, name) for name in re.split(" next to ", words)]
            assert matches.count(0) == 1
        impossible_seen += bool(impossible)
    assert possible_seen > 5
    assert impossible_seen > 5


def done_at_the_start(level: Any) -> set[str]:
    """The words, in the two wordings of "go to", for what the agent faces."""
    faced = level.grid.get(*level.front_pos)
    if faced is None or faced.type not in OBJ_TYPES:
        return set()
    return {f"go to {article} {faced.color} {faced.type}" for article in ("a", "the")}


def bot_did(level_id: str, seed: int) -> set[str]:
    """All that the bot fulfils on its way to what a level asks for."""
    env = make_env(level_id)
    env.reset(seed=seed)
    fulfilled, advise = env.get_wrapper_attr("fulfilled_instructions"), env.get_wrapper_attr("expert_action")
    did, over = set(fulfilled()), False
    while not over:
        *_, terminated, truncated, info = env.step(advise())
        did |= set(fulfilled())
        over = terminated or truncated
    assert info["is_success"]
    return did


@pytest.mark.parametrize(
    ("level_id", "on_the_way"),
    [
        ("BabyAI-UnlockPickup-v0", r"pick up (a|the) (\w+ )?key"),
        ("BabyAI-BlockedUnlockPickup-v0", r"pick up (a|the) (\w+ )?(key|ball)"),
        ("BabyAI-KeyCorridorS3R2-v0", r"pick up (a|the) (\w+ )?key"),
    ],
)
def test_what_is_on_the_way_does_not_stand_in_the_place_of_an_instruction(level_id: str, on_the_way: str) -> None:
    """The key of the room that the box is in: whoever fetches the box picks it up, whatever he was told."""
    env = make_env(level_id)
    for seed in range(3):
        env.reset(seed=seed)
        assert env.get_wrapper_attr("possible_instructions")() == ()
        assert any(re.fullmatch(on_the_way, words) for words in bot_did(level_id, seed))


def test_what_can_only_be_done_after_the_own_one_does_not_either() -> None:
    """The episode would have ended before: behind the door that is to be opened are the other doors."""
    env = make_env("BabyAI-Open-v0")
    level: Any = env.unwrapped
    left_out = 0
    for seed in range(12):
        env.reset(seed=seed)
        possible = set(env.get_wrapper_attr("possible_instructions")())
        for words in valid(level) - possible - bot_did("BabyAI-Open-v0", seed):
            own = level.instrs.desc.obj_set
            color = next(color for color in COLOR_NAMES if color in words)
            doors = ObjDesc("door", color).find_matching_objs(level)[0]
            assert Reach(level).touches(doors, opens=True)
            assert not Reach(level, own).touches(doors, opens=True)
            left_out += 1
    assert left_out > 3


@pytest.mark.parametrize("kind", [GoToInstr, OpenInstr, PickupInstr])
def test_what_is_done_as_the_episode_begins_is_not_possible(kind: Any) -> None:
    env = make_env("BabyAI-GoToLocal-v0" if kind is not OpenInstr else "BabyAI-OpenDoorColor-v0")
    level: Any = env.unwrapped

    def begin(seed: int) -> set[str]:
        env.reset(seed=seed)
        if kind is PickupInstr:
            level.instrs = PickupInstr(level.instrs.desc)
            level.instrs.reset_verifier(level)
        return set(env.get_wrapper_attr("possible_instructions")())

    verb = {GoToInstr: "go to", OpenInstr: "open", PickupInstr: "pick up"}[kind]
    for seed in range(30):
        for words in begin(seed):
            article = words.removeprefix(verb).split()[0]
            env.reset(seed=seed)
            named = [one for one in level.grid.grid if one and words == f"{verb} {article} {one.color} {one.type}"]
            if len(named) != 1:
                continue
            if kind is PickupInstr:
                level.instrs = PickupInstr(level.instrs.desc)
                level.instrs.reset_verifier(level)
                level.carrying = named[0]
                level.carrying.init_pos = (1, 1)
            elif kind is OpenInstr:
                named[0].is_open = True
            else:
                level.grid.set(*level.front_pos, named[0])
            assert words not in env.get_wrapper_attr("possible_instructions")()
            return
    raise AssertionError("there was no such thing")


def valid(level: Any) -> set[str]:
    """The words of what the level could have asked for in its own kind and wording, about other things."""
    found = set()
    own = [{id(thing) for thing in description.obj_set} for description in descriptions_of(level.instrs)]
    for instruction in alternatives(level):
        with contextlib.suppress(AssertionError, RejectSampling):
            words = instruction.surface(level)
            level.validate_instrs(instruction)
            things = [] if isinstance(instruction, PutNextInstr) else instruction.desc.obj_set
            # BabyAI counts the walls among the grey objects, but nobody picks them up.
            if things and not any(thing.type in OBJ_TYPES for thing in things):
                continue
            theirs = [{id(thing) for thing in description.obj_set} for description in descriptions_of(instruction)]
            if not all(ours & others for ours, others in zip(own, theirs, strict=True)):
                found.add(words)
    return found


def descriptions_of(instruction: Any) -> list[Any]:
    """Of what a single instruction speaks."""
    put = isinstance(instruction, PutNextInstr)
    return [instruction.desc_move, instruction.desc_fixed] if put else [instruction.desc]


def found_by_the_level(level: Any, words: str) -> int:
    """How many things BabyAI finds for the description in some words, wherever they are."""
    kind = next((kind for kind in OBJ_TYPES if re.search(rf"\b{kind}\b", words)), None)
    color = next((color for color in COLOR_NAMES if re.search(rf"\b{color}\b", words)), None)
    assert kind or color
    return len(ObjDesc(kind, color).find_matching_objs(level)[0])


def test_possible_instructions_may_be_asked_before_or_between_what_was_fulfilled() -> None:
    env = make_env("BabyAI-GoToLocal-v0")
    number = 0
    for seed in range(4):
        actions, told, _ = play("BabyAI-GoToLocal-v0", seed)
        own = env.reset(seed=seed)[0]["instruction"]
        possible = env.get_wrapper_attr("possible_instructions")()
        fulfilled = env.get_wrapper_attr("fulfilled_instructions")
        assert fulfilled() == {}
        for action, expected in zip(actions, told, strict=True):
            env.step(action)
            assert fulfilled() == expected
            assert set(expected) <= {*possible, own}
            number += len(expected)
    assert number > 0


def test_nothing_is_computed_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr("heed.envs.babyai.instructions._Episode.__init__", refuse)
    env = make("BabyAI-GoToLocal-v0", n_envs=2, seed=0)
    env.reset()
    infos = env.step(np.array([2, 2]))[3]
    assert "fulfilled_instructions" not in infos[0]


def test_thing_that_a_level_set_into_its_grid_by_hand_stays_where_it_is() -> None:
    """BlockedUnlockPickup's ball has no `cur_pos` until somebody picks it up."""
    env = make_env("BabyAI-BlockedUnlockPickup-v0")
    env.reset(seed=0)
    level: Any = env.unwrapped
    balls = [thing for thing in level.grid.grid if thing is not None and thing.type == "ball"]
    assert [ball.cur_pos for ball in balls] == [None]
    fulfilled = env.get_wrapper_attr("fulfilled_instructions")
    fulfilled()
    for action in (level.actions.toggle, level.actions.drop):  # only then is looked again where things are
        env.step(int(action))
        fulfilled()
    described = env.get_wrapper_attr("_looked_at")()._described.values()
    places = [place for one in described for thing, place in zip(one.obj_set, one.obj_poss) if thing is balls[0]]  # noqa: B905
    assert all(level.grid.get(*place) is balls[0] for place in places)
    assert all(len(one.obj_set) == len(one.obj_poss) for one in described)
