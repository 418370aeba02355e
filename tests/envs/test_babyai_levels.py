"""Our own BabyAI levels: GLAM's mixture of tasks, and things that only a relation tells apart."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT
from minigrid.core.world_object import Door

from heed.envs.babyai.grammar import parse
from heed.envs.babyai.mixed_local import TASKS
from heed.envs.babyai.relations import OPPOSITES, RELATIONS
from heed.envs.checks import check_env
from heed.envs.contract import expert_of
from heed.envs.make import make_env, make_plain_env
from tests.envs.test_babyai import Words

MIXED, RELATION = "BabyAI-MixedTrainLocal-v0", "BabyAI-GoToRelationLocal-v0"
THING = r"the (?:red|green|blue|purple|yellow|grey) (?:ball|box|key)"
FORMS = {
    "go to": rf"go to {THING}",
    "pick up": rf"pick up {THING}",
    "put next": rf"put {THING} next to {THING}",
    "pick up then go to": rf"pick up {THING}, then go to {THING}|go to {THING} after you pick up {THING}",
    "open door": r"open the \w+ door",
}
STEPS_OF = {"left of": (-1, 0), "right of": (1, 0), "in front of": (0, -1), "behind": (0, 1)}
"""Where the thing is from its anchor as the agent saw the two: to the right, and ahead."""


def things_of(env: gymnasium.Env[Any, Any]) -> dict[tuple[int, int], Any]:
    level: Any = env.unwrapped
    cells = {(x, y): level.grid.get(x, y) for x in range(level.grid.width) for y in range(level.grid.height)}
    return {place: thing for place, thing in cells.items() if thing is not None and thing.type != "wall"}


def follow_the_expert(env: gymnasium.Env[Any, Any], *, seed: int, detours: float = 0.0) -> dict[str, Any]:
    """Play an episode as the expert advises, and at random now and then; return the last info."""
    env.reset(seed=seed)
    advise, generator = expert_of(env), np.random.default_rng(seed)
    assert advise is not None
    while True:
        action = advise()
        if generator.random() < detours:
            action = int(generator.integers(5))  # not the toggle, which may open a box
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info


@pytest.mark.parametrize("env_id", [MIXED, RELATION])
def test_levels_keep_the_whole_contract(env_id: str) -> None:
    checks = check_env(env_id, episodes=3)
    assert [check.detail for check in checks if not check.passed] == []


@pytest.mark.parametrize("env_id", [MIXED, RELATION])
def test_the_expert_solves_every_task(env_id: str) -> None:
    env, solved = make_env(env_id), Counter[str]()
    for seed in range(40):
        info = follow_the_expert(env, seed=seed, detours=0.2 if seed % 2 else 0.0)
        assert info["is_success"], seed
        solved[info["level"]] += 1
    assert set(solved) == set(TASKS if env_id == MIXED else RELATIONS)


@pytest.mark.parametrize("env_id", [MIXED, RELATION])
def test_a_seed_gives_the_same_world_and_task(env_id: str) -> None:
    first, second = make_env(env_id), make_env(env_id)
    second.reset(seed=77)
    for seed in range(5):
        (words, info), (others, other_info) = first.reset(seed=seed), second.reset(seed=seed)
        assert words == others
        assert info["level"] == other_info["level"]


def test_the_mixture_asks_for_five_tasks_about_one_thing_each() -> None:
    env = make_env(MIXED)
    level: Any = env.unwrapped
    drawn = Counter[str]()
    for seed in range(100):
        words, info = env.reset(seed=seed)
        task = info["level"]
        drawn[task] += 1
        assert re.fullmatch(FORMS[task], words["instruction"])
        assert str(parse(words["instruction"])) == words["instruction"]
        assert level.max_steps == (128 if task in ("put next", "pick up then go to") else 64)
        things = list(things_of(env).values())
        doors = [thing for thing in things if isinstance(thing, Door)]
        assert len({door.color for door in doors}) == 2
        assert not any(door.is_open or door.is_locked for door in doors)
        # Every description, which names kind and color, is of one thing.
        assert len({(thing.type, thing.color) for thing in things}) == len(things) == 10
    assert set(drawn) == set(TASKS)
    assert min(drawn.values()) > 10
    *_, info = env.step(0)
    assert info["level"] == task


def test_the_world_does_not_tell_the_task() -> None:
    envs = [make_env(MIXED, tasks=[task]) for task in ("go to", "pick up", "open door", "pick up then go to")]
    for seed in range(10):
        observations = {env.reset(seed=seed)[0]["observation"] for env in envs}
        assert len(observations) == 1
        assert len({str({place: thing.encode() for place, thing in things_of(env).items()}) for env in envs}) == 1


def test_arguments_of_the_mixture() -> None:
    env = make_env(MIXED, tasks=["put next"], num_dists=4, room_size=7)
    level: Any = env.unwrapped
    assert {env.reset(seed=seed)[1]["level"] for seed in range(5)} == {"put next"}
    assert len(things_of(env)) == 6
    assert level.max_steps == 2 * 7**2
    env = make_plain_env(MIXED, tasks=["put next"], max_steps=9)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(9)] == [False] * 8 + [True]
    for tasks in ("go to", [], ["go to", "fly"]):
        with pytest.raises(ValueError, match=r"must be a list of some of: go to, pick up"):
            make_env(MIXED, tasks=tasks)


def meant(env: gymnasium.Env[Any, Any], instruction: str) -> list[tuple[int, int]]:
    """Where the things are that an instruction means, found in the grid by hand right after a reset."""
    level: Any = env.unwrapped
    match = re.fullmatch(rf"go to (?:a|the) (\w+) (\w+) ({'|'.join(RELATIONS)}) (?:a|the) (\w+) (\w+)", instruction)
    assert match, instruction
    color, kind, relation, anchor_color, anchor_kind = match.groups()
    right, ahead = np.array(level.right_vec), np.array(level.dir_vec)
    steps = [STEPS_OF[relation]] if relation != "next to" else list(STEPS_OF.values())
    things = things_of(env)
    found = []
    for (x, y), anchor in things.items():
        for to_the_right, further in steps:
            place = tuple(int(part) for part in np.array([x, y]) + to_the_right * right + further * ahead)
            thing = things.get((place[0], place[1]))
            if thing and (anchor.type, anchor.color) == (anchor_kind, anchor_color):
                found += [place] if (thing.type, thing.color) == (kind, color) else []
    return [(x, y) for x, y in found]


def swapped(instruction: str) -> str:
    match = re.fullmatch(rf"go to (.+) ({'|'.join(RELATIONS)}) (.+)", instruction)
    assert match
    return f"go to {match[3]} {match[2]} {match[1]}"


def test_only_the_relation_tells_which_thing_is_meant() -> None:
    env = make_env(RELATION)
    level: Any = env.unwrapped
    for seed in range(60):
        words, info = env.reset(seed=seed)
        instruction, relation = words["instruction"], info["level"]
        assert f" {relation} the " in instruction
        (goal,) = meant(env, instruction)
        assert level.instrs.desc.obj_poss == [goal]
        things = things_of(env)
        alike = [place for place, thing in things.items() if thing.encode() == things[goal].encode()]
        assert len(alike) == 3
        # Another side, another order, another anchor: each names another thing.
        (other,) = meant(env, swapped(instruction))
        assert things[other].encode() != things[goal].encode()
        if relation in OPPOSITES:
            (across,) = meant(env, instruction.replace(relation, OPPOSITES[relation]))
            assert across in alike
            assert across != goal
            # The swapped one is in the same pair as what lies across, so both orders are there to be confused.
            assert np.abs(np.subtract(across, other)).sum() == 1
        # Pairs never touch, so nothing has a relation but within its pair.
        touching = [sum(abs(x - u) + abs(y - v) == 1 for u, v in things) for x, y in things]
        assert touching == [1] * 8


def test_everything_lies_before_the_agent_as_it_begins() -> None:
    env = make_env(RELATION)
    level: Any = env.unwrapped
    headings = set()
    for seed in range(40):
        env.reset(seed=seed)
        assert level.grid.get(*(level.agent_pos - level.dir_vec)).type == "wall"
        ahead = [np.dot(np.subtract(place, level.agent_pos), level.dir_vec) for place in things_of(env)]
        assert min(ahead) >= 1
        assert level.grid.get(*level.front_pos) is None
        headings.add(int(level.agent_dir))
    assert headings == {0, 1, 2, 3}


def test_the_words_alone_tell_which_thing_is_meant_wherever_the_agent_stands() -> None:
    env = make_env(RELATION)
    level: Any = env.unwrapped
    decided = 0
    for seed in range(30):
        words, info = env.reset(seed=seed)
        goal, actions = meant(env, words["instruction"])[0], np.random.default_rng(seed)
        for _ in range(12):
            decided += decides(words, info["level"], goal, level)
            words, _, terminated, truncated, info = env.step(int(actions.choice([0, 1, 2], p=[0.2, 0.2, 0.6])))
            if terminated or truncated:
                break
    assert decided > 100


def decides(words: dict[str, str], relation: str, goal: tuple[int, int], level: Any) -> bool:
    """Check that the thing which the words single out is the goal; say whether it was in sight with its anchor."""
    _, thing, anchor = re.split(rf"go to the | {relation} the ", words["instruction"])
    read = Words.read(words["observation"])
    steps = list(STEPS_OF.values())
    if relation != "next to":
        assert read.start is not None
        turns = ("ahead", "right", "behind", "left").index(read.start[1])
        steps = [turned(STEPS_OF[relation], turns)]
    things = {place: name(code) for place, code in read.things.items()}
    found = {
        (x, y)
        for (x, y), what in things.items()
        if what == thing and any(things.get((x - dx, y - dy)) == anchor for dx, dy in steps)
    }
    offset = np.subtract(goal, level.agent_pos)
    where = (int(np.dot(offset, level.right_vec)), int(np.dot(offset, level.dir_vec)))
    assert found <= {where}
    return bool(found)


def turned(step: tuple[int, int], quarters: int) -> tuple[int, int]:
    """The same step where ahead is so many quarter turns clockwise of ours."""
    side, ahead = step
    for _ in range(quarters):
        side, ahead = ahead, -side
    return side, ahead


def name(code: Any) -> str:
    return f"{IDX_TO_COLOR[code[1]]} {IDX_TO_OBJECT[code[0]]}"


def test_what_an_episode_fulfils_is_found_by_its_relations() -> None:
    env = make_env(RELATION)
    fulfilled = env.get_wrapper_attr("fulfilled_instructions")
    told_of = Counter[str]()
    for seed in range(25):
        words, info = env.reset(seed=seed)
        own, relation = words["instruction"], info["level"]
        possible = env.get_wrapper_attr("possible_instructions")()
        impossible = env.get_wrapper_attr("impossible_instructions")()
        sided = relation != "next to"
        assert swapped(own) in possible
        assert own not in possible
        assert not any(meant(env, one) for one in impossible)
        assert len(impossible) > 40
        assert all((" next to " in one) != sided for one in (*possible, *impossible))
        # Each of the 4 pairs has two relations, and "next to" one in each direction for each pair of names.
        goals = {one: set(meant(env, one)) for one in (*possible, own)}
        assert len(goals) == (8 if sided else 6)
        assert all(goals.values())
        generator = np.random.default_rng(seed)
        seen: set[str] = set()
        assert fulfilled() == {}
        for _ in range(40):
            *_, terminated, truncated, info = env.step(int(generator.choice([0, 1, 2], p=[0.2, 0.2, 0.6])))
            level: Any = env.unwrapped
            faced = tuple(int(part) for part in level.front_pos)
            expected = {one for one, places in goals.items() if faced in places} - seen
            assert set(fulfilled()) == expected
            seen |= expected
            told_of.update(expected)
            if terminated or truncated:
                break
    assert len(told_of) > 10


def test_a_thing_that_was_carried_away_is_still_meant() -> None:
    """What is named by where it was keeps its name, wherever the agent puts it down."""
    env = make_env(RELATION, tasks=["next to"])
    level: Any = env.unwrapped
    env.reset(seed=3)
    fulfilled = env.get_wrapper_attr("fulfilled_instructions")
    fulfilled()
    (thing,) = level.instrs.desc.obj_set
    x, y = level.instrs.desc.obj_poss[0]
    level.grid.set(x, y, None)
    level.carrying = thing
    env.step(4)  # put it down before the agent
    assert level.instrs.desc.obj_poss == [tuple(int(part) for part in level.front_pos)]
    assert level.instrs.desc.surface(level) in env.reset(seed=3)[0]["instruction"]


def test_relations_can_be_held_out() -> None:
    plain = make_env(RELATION)
    instructions = {plain.reset(seed=seed)[0]["instruction"] for seed in range(64)}
    for phrase in ("purple key", "ball left of", "next to the"):
        assert any(phrase in words for words in instructions)
        env = make_env(RELATION, hold_out=[phrase])
        assert not any(phrase in env.reset(seed=seed)[0]["instruction"] for seed in range(64))
