"""BabyAI in words: the words hold what the picture holds, and they are enough to solve levels with."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Lava, Wall, WorldObj
from minigrid.minigrid_env import MiniGridEnv

from heed.envs.babyai.words import ACTION_TEXTS, MiniGridVerbalizer
from heed.envs.make import make_env
from heed.envs.words.verbalize import VerbalizedEnv
from tests.sampling import sampled

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)

BABYAI_IDS = sorted(name for name in gymnasium.registry if name.startswith("BabyAI-"))
# MiniGrid's wave-function-collapse levels miss their data files in the package itself.
MINIGRID_IDS = sorted(name for name in gymnasium.registry if re.match("MiniGrid-(?!WFC)", name))

Cell = tuple[int, int]
"""Steps to the right (negative: to the left) and steps ahead, from the agent."""
Code = tuple[int, int, int]
"""MiniGrid's kind, colour and state of a cell."""

COLOR = "red|green|blue|purple|yellow|grey"
THING = rf"(?:(?P<state>open|closed|locked) )?(?:(?P<color>{COLOR}) )?(?P<kind>\w+)"
PLACE = r"(?:(?P<side>\d+) (?P<hand>left|right))?(?: ?(?P<ahead>\d+) (?P<way>ahead|behind))?"


@dataclass
class Words:
    """What an observation's words say, read by a parser that knows the format's description only."""

    things: dict[Cell, Code] = field(default_factory=dict)
    walls: set[Cell] = field(default_factory=set)
    wall_rows: set[int] = field(default_factory=set)
    wall_columns: set[int] = field(default_factory=set)
    carrying: Code | None = None
    start: tuple[Cell, str] | None = None

    @classmethod
    def read(cls, text: str) -> "Words":
        words = cls()
        for phrase in text.split("; "):
            words._read_phrase(phrase)
        return words

    def _read_phrase(self, phrase: str) -> None:
        if phrase == "nothing":
            return
        if match := re.fullmatch(r"start (.+) facing (ahead|right|behind|left)", phrase):
            self.start = (place(match[1]), match[2])
        elif match := re.fullmatch(rf"carrying {THING}", phrase):
            assert self.carrying is None
            self.carrying = code(match)
        elif phrase.startswith("wall "):
            self._read_wall(phrase.removeprefix("wall "))
        else:
            match = re.fullmatch(rf"{THING} (?P<where>.+)", phrase)
            assert match, phrase
            where = place(match["where"])
            assert where not in self.things, phrase
            self.things[where] = code(match)

    def _read_wall(self, where: str) -> None:
        if match := re.fullmatch(r"(\d+) ahead", where):
            self.wall_rows.add(int(match[1]))
        elif match := re.fullmatch(r"(\d+) (left|right)", where):
            self.wall_columns.add(signed(match[1], match[2]))
        elif match := re.fullmatch(r"(.+) alone", where):
            self.walls.add(place(match[1]))
        elif match := re.fullmatch(r"(?:(\d+) (left|right) )?(\d+) to (\d+) ahead", where):
            side = signed(match[1], match[2]) if match[1] else 0
            self.walls |= {(side, ahead) for ahead in range(int(match[3]), int(match[4]) + 1)}
        elif match := re.fullmatch(r"(\d+) (left )?to (\d+) (left|right) (\d+) ahead", where):
            ends = signed(match[1], match[2] or match[4]), signed(match[3], match[4])
            self.walls |= {(side, int(match[5])) for side in range(ends[0], ends[1] + 1)}
        else:
            self.walls.add(place(where))

    def is_wall(self, cell: Cell) -> bool:
        """Whether the words say that there is wall at a cell that the agent sees."""
        if cell in self.things:
            return False
        side, ahead = cell
        return cell in self.walls or ahead in self.wall_rows or side in self.wall_columns


def signed(steps: str, hand: str) -> int:
    return -int(steps) if hand.strip() in ("left", "behind") else int(steps)


def place(words: str) -> Cell:
    if words == "here":
        return 0, 0
    match = re.fullmatch(PLACE, words)
    assert match, words
    side = signed(match["side"], match["hand"]) if match["side"] else 0
    ahead = signed(match["ahead"], match["way"]) if match["ahead"] else 0
    return side, ahead


def code(match: re.Match[str]) -> Code:
    color = COLOR_TO_IDX[match["color"] or "red"]  # lava has no colour word, and is red
    return OBJECT_TO_IDX[match["kind"]], color, STATE_TO_IDX[match["state"]] if match["state"] else 0


def mismatches(words: Words, image: npt.NDArray[np.uint8]) -> list[str]:
    """Compare the words with the picture, cell by cell; cells out of sight may only be told as lines of wall."""
    width, height, _ = image.shape
    wall, empty = (OBJECT_TO_IDX["wall"], COLOR_TO_IDX["grey"], 0), (OBJECT_TO_IDX["empty"], 0, 0)
    faults = []
    for i in range(width):
        for j in range(height):
            cell = (i - width // 2, height - 1 - j)
            seen = tuple(int(value) for value in image[i, j])
            if cell == (0, 0):
                told = words.carrying or empty
            elif seen[0] == OBJECT_TO_IDX["unseen"]:
                if cell in words.things or cell in words.walls:
                    faults.append(f"{cell} is out of sight, but told")
                continue
            else:
                told = words.things.get(cell) or (wall if words.is_wall(cell) else empty)
            if told != seen:
                faults.append(f"{cell}: told {told}, seen {seen}")
    return faults


def minigrid_of(env: gymnasium.Env[Any, Any]) -> MiniGridEnv:
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, MiniGridEnv)
    return unwrapped


def wander(env_id: str, *, episodes: int, steps: int) -> Iterator[tuple[MiniGridEnv, dict[str, str]]]:
    """Yield the environment and its words at every step of random episodes."""
    env = make_env(env_id)
    env.action_space.seed(1)
    for seed in range(episodes):
        words, _ = env.reset(seed=seed)
        yield minigrid_of(env), words
        for _ in range(steps):
            words, _, terminated, truncated, _ = env.step(env.action_space.sample())
            yield minigrid_of(env), words
            if terminated or truncated:
                break


def picture(env: MiniGridEnv) -> npt.NDArray[np.uint8]:
    """Draw what the agent sees, as MiniGrid itself does, and not `heed.envs.babyai.speed`."""
    image: npt.NDArray[np.uint8] = MiniGridEnv.gen_obs(env)["image"]
    return image


@pytest.mark.parametrize("env_id", [*sampled(BABYAI_IDS, 12), *sampled(MINIGRID_IDS, 12)])
@pytest.mark.filterwarnings("ignore:.*is out of date")
def test_words_hold_the_picture(env_id: str) -> None:
    for env, words in wander(env_id, episodes=2, steps=15):
        assert mismatches(Words.read(words["observation"]), picture(env)) == [], words["observation"]


def test_every_kind_of_thing_was_told() -> None:
    """The round trip above is worth as much as the things that it met."""
    kinds: set[int] = set()
    for env_id in ("BabyAI-BossLevel-v0", "MiniGrid-LavaGapS5-v0"):
        for env, _ in wander(env_id, episodes=3, steps=30):
            kinds |= set(picture(env)[:, :, 0].ravel().tolist())
    met = {name for name, index in OBJECT_TO_IDX.items() if index in kinds}
    assert met >= {"unseen", "empty", "wall", "door", "key", "ball", "box", "goal", "lava"}


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("red ball 2 left 3 ahead; wall 4 ahead", "red ball 2 right 3 ahead; wall 4 ahead"),
        ("red ball 2 left 3 ahead; wall 4 ahead", "blue ball 2 left 3 ahead; wall 4 ahead"),
        ("red ball 2 left 3 ahead; wall 4 ahead", "red ball 2 left 3 ahead; wall 4 ahead alone"),
        ("red ball 2 left 3 ahead; wall 4 ahead", "red ball 2 left 3 ahead"),
        ("red ball 2 left 3 ahead; wall 4 ahead", "red ball 2 left 3 ahead; wall 4 ahead; carrying red key"),
    ],
)
def test_round_trip_finds_a_mistake(words: str, wrong: str) -> None:
    env = hand_made({(-2, 3): Ball("red"), **{(side, 4): Wall() for side in range(-3, 4)}})
    assert say(env) == words
    assert mismatches(Words.read(words), picture(env)) == []
    assert mismatches(Words.read(wrong), picture(env)) != []


class HandMade(MiniGridEnv):
    """A wide empty floor with a few things, placed in the agent's frame; the agent looks up."""

    def __init__(self, things: dict[Cell, WorldObj], max_steps: int):
        self._things = things
        super().__init__(MissionSpace(lambda: "get there"), grid_size=21, max_steps=max_steps)

    def _gen_grid(self, width: int, height: int) -> None:
        print("Sampling rejected: a level that talks while it is made")
        self.grid = Grid(width, height)
        self.agent_pos, self.agent_dir, self.mission = (10, 10), 3, "get there"
        for (side, ahead), thing in self._things.items():
            self.grid.set(10 + side, 10 - ahead, thing)


def hand_made(things: dict[Cell, WorldObj], *, max_steps: int = 20) -> MiniGridEnv:
    env = HandMade(things, max_steps)
    env.reset(seed=0)
    return env


def speaking(things: dict[Cell, WorldObj], *, max_steps: int = 20) -> VerbalizedEnv:
    return VerbalizedEnv(MiniGridVerbalizer(HandMade(things, max_steps)))


def say(env: MiniGridEnv) -> str:
    return MiniGridVerbalizer(env).observation({"image": picture(env), "mission": "get there"})


def walls(*cells: Cell) -> dict[Cell, WorldObj]:
    return {cell: Wall() for cell in cells}


ROW_4: list[Cell] = [(side, 4) for side in range(-3, 4)]
OPEN_DOOR, LOCKED_DOOR = Door("blue", is_open=True), Door("purple", is_locked=True)


@pytest.mark.parametrize(
    ("things", "words"),
    [
        ({}, "nothing"),
        ({(0, 1): Ball("red")}, "red ball 1 ahead"),
        ({(-2, 0): Key("blue"), (3, 6): Box("grey")}, "blue key 2 left; grey box 3 right 6 ahead"),
        # Of two things at the same distance, the one that is less far ahead comes first, then the left one.
        (
            {(0, 2): Ball("red"), (1, 1): Ball("green"), (-1, 1): Ball("blue")},
            "blue ball 1 left 1 ahead; green ball 1 right 1 ahead; red ball 2 ahead",
        ),
        ({(0, 1): Door("red")}, "closed red door 1 ahead"),
        ({(1, 1): OPEN_DOOR, (0, 2): LOCKED_DOOR}, "open blue door 1 right 1 ahead; locked purple door 2 ahead"),
        ({(1, 3): Lava(), (0, 1): Goal()}, "green goal 1 ahead; lava 1 right 3 ahead"),
        (walls(*ROW_4), "wall 4 ahead"),
        # A door in a line of wall is named, and the line stands; a gap must not hide in a line.
        ({**walls(*ROW_4), (2, 4): Door("grey")}, "closed grey door 2 right 4 ahead; wall 4 ahead"),
        (walls(*(cell for cell in ROW_4 if cell != (0, 4))), "wall 3 to 1 left 4 ahead; wall 1 to 3 right 4 ahead"),
        (walls(*ROW_4[:-1]), "wall 3 left to 2 right 4 ahead"),
        (walls(*ROW_4[:4]), "wall 3 to 0 left 4 ahead"),
        (walls(*ROW_4[3:]), "wall 0 to 3 right 4 ahead"),
        (walls(*((2, ahead) for ahead in range(-3, 7))), "wall 2 right"),
        (walls(*((-1, ahead) for ahead in range(-3, 7))), "wall 1 left"),
        (walls((-2, 1), (-2, 2), (-2, 3)), "wall 2 left 1 to 3 ahead"),
        (walls((-1, 0), (-1, 1)), "wall 1 left 0 to 1 ahead"),
        (walls((0, 4)), "wall 4 ahead alone"),
        (walls((-2, 0)), "wall 2 left alone"),
        (walls((-2, 3)), "wall 2 left 3 ahead"),
    ],
)
def test_exact_words(things: dict[Cell, WorldObj], words: str) -> None:
    env = hand_made(things)
    assert say(env) == words
    assert mismatches(Words.read(words), picture(env)) == []


def test_column_ahead_is_told_by_its_nearest_walls() -> None:
    env = hand_made(walls((0, 1), (1, 2), (1, 1), (-1, 1)))
    assert mismatches(Words.read(say(env)), picture(env)) == []
    assert say(env).startswith("wall 1 left to 1 right 1 ahead")


def test_carried_thing_is_told() -> None:
    env = speaking({(0, 1): Key("yellow")})
    assert env.reset(seed=0)[0]["observation"] == "yellow key 1 ahead"
    assert env.step(PICK_UP)[0]["observation"] == "carrying yellow key"
    assert env.step(DROP)[0]["observation"] == "yellow key 1 ahead"


def test_first_words_tell_what_a_level_hands_over() -> None:
    """These levels change after their reset has drawn its observation, which is then of the world before."""
    words, _ = make_env("BabyAI-PutNextS5N2Carrying-v0").reset(seed=0)
    assert "carrying" in words["observation"]


def test_instruction_and_action_texts() -> None:
    env = make_env("BabyAI-GoToRedBallNoDists-v0")
    assert env.reset(seed=0)[0]["instruction"] == "go to the red ball"
    assert env.get_wrapper_attr("action_texts") == ACTION_TEXTS
    for index, action in enumerate(minigrid_of(env).actions):
        assert action == index
    # The levels with fewer actions have the first of them.
    few = make_env("MiniGrid-Dynamic-Obstacles-5x5-v0")
    assert few.get_wrapper_attr("action_texts") == ("turn left", "turn right", "go forward")


def test_other_environments_are_refused() -> None:
    with pytest.raises(TypeError, match="needs a MiniGrid environment, not CartPoleEnv"):
        MiniGridVerbalizer(gymnasium.make("CartPole-v1"))


def test_level_generation_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    speaking({}).reset(seed=0)
    assert capsys.readouterr().out == ""
    hand_made({})
    assert "Sampling rejected" in capsys.readouterr().out


def test_success() -> None:
    env = speaking({(0, 1): Goal()})
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    assert reward > 0


def test_success_on_the_last_allowed_step_is_no_time_limit() -> None:
    plain = hand_made({(0, 1): Goal()}, max_steps=1)
    assert plain.step(plain.actions.forward)[2:4] == (True, True)  # MiniGrid says both
    env = speaking({(0, 1): Goal()}, max_steps=1)
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(FORWARD)
    assert (terminated, truncated, info["is_success"]) == (True, False, True)


def test_failure_by_lava() -> None:
    env = speaking({(0, 1): Lava()})
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(FORWARD)
    assert (terminated, truncated, info["is_success"]) == (True, False, False)


def test_failure_by_the_wrong_thing() -> None:
    env = make_env("BabyAI-PickupDistDebug-v0")  # ends when anything else is picked up
    instruction = env.reset(seed=0)[0]["instruction"]
    level = minigrid_of(env)
    spots = [
        (thing, (x, y + 1))
        for x in range(level.width)
        for y in range(level.height - 1)
        if (thing := level.grid.get(x, y)) is not None
        and thing.can_pickup()
        and thing.type not in instruction
        and level.grid.get(x, y + 1) is None
    ]
    assert spots
    level.agent_pos, level.agent_dir = spots[0][1], 3
    _, reward, terminated, truncated, info = env.step(PICK_UP)
    carrying: Any = level.carrying
    assert carrying is spots[0][0]
    assert (reward, terminated, truncated, info["is_success"]) == (0, True, False, False)


def test_time_limit_is_babyais_own() -> None:
    env = make_env("BabyAI-GoToLocal-v0")
    env.reset(seed=0)
    assert env.spec is not None
    assert env.spec.max_episode_steps is None
    ends = [env.step(LEFT) for _ in range(minigrid_of(env).max_steps)]
    assert minigrid_of(env).max_steps == 64
    assert not any(terminated or truncated for _, _, terminated, truncated, _ in ends[:-1])
    assert "is_success" not in ends[-2][-1]
    _, reward, terminated, truncated, info = ends[-1]
    assert (reward, terminated, truncated, info["is_success"]) == (0, False, True, False)


@pytest.mark.parametrize(
    "env_id", ["BabyAI-OpenDoorLoc-v0", "BabyAI-SynthLoc-v0", "BabyAI-PickupLoc-v0", "BabyAI-GoToRelationLocal-v0"]
)
def test_start_is_told_where_the_instruction_needs_it(env_id: str) -> None:
    told = 0
    for env, words in wander(env_id, episodes=24, steps=10):
        if env.step_count == 0:
            start_position, start_direction = np.array(env.agent_pos), env.agent_dir
        start = Words.read(words["observation"]).start
        relative = re.search("in front of|behind|on your (left|right)|(left|right) of", words["instruction"])
        assert (start is not None) == (relative is not None), words
        if start is not None:
            (side, ahead), heading = start
            where = np.array(env.agent_pos) + side * env.right_vec + ahead * env.dir_vec
            turns = ("ahead", "right", "behind", "left").index(heading)
            assert where.tolist() == start_position.tolist()
            assert (env.agent_dir + turns) % 4 == start_direction
            told += 1
    assert told >= 20


class WordsOnlySolver:
    """Goes to a thing, knowing nothing but the instruction and the observations' words.

    It keeps a map in the frame of its beginning, by dead reckoning: a step forward succeeds exactly if nothing
    was named there.
    """

    def __init__(self, instruction: str):
        match = re.fullmatch(rf"go to (?:the|a) (?:({COLOR}) )?(\w+)", instruction)
        assert match, instruction
        self._color = None if match[1] is None else COLOR_TO_IDX[match[1]]
        self._kind = OBJECT_TO_IDX[match[2]]
        self._position, self._heading = (0, 0), 0  # quarter turns clockwise
        self._blocked: set[Cell] = set()
        self._targets: set[Cell] = set()
        self._turns = 0

    def act(self, observation: str) -> int:
        words = Words.read(observation)
        self._look(words)
        if (action := self._step_to_target()) is None:
            # Nothing seen yet: look around, and then walk on.
            free = not (words.is_wall((0, 1)) or (0, 1) in words.things)
            action = FORWARD if self._turns >= 4 and free else LEFT
            self._turns += 1
        return self._reckon(action, words)

    def _look(self, words: Words) -> None:
        self._blocked |= {self._on_map(cell) for cell in words.things}
        view = [(side, ahead) for side in range(-3, 4) for ahead in range(7) if (side, ahead) != (0, 0)]
        self._blocked |= {self._on_map(cell) for cell in view if words.is_wall(cell)}
        self._targets |= {
            self._on_map(cell)
            for cell, (kind, color, _) in words.things.items()
            if kind == self._kind and self._color in (None, color)
        }

    def _on_map(self, cell: Cell) -> Cell:
        side, ahead = cell
        for _ in range(self._heading):
            side, ahead = ahead, -side
        return self._position[0] + side, self._position[1] + ahead

    def _step_to_target(self) -> int | None:
        """The first action on the shortest way to face a target; None if none is known."""
        begin = (self._position, self._heading)
        first: dict[tuple[Cell, int], int] = {begin: DONE}
        queue = deque([begin])
        while queue:
            position, heading = queue.popleft()
            front = in_front(position, heading)
            if front in self._targets:
                return first[position, heading]
            after = {LEFT: (position, (heading - 1) % 4), RIGHT: (position, (heading + 1) % 4)}
            if front not in self._blocked and max(map(abs, front)) < 20:
                after[FORWARD] = (front, heading)
            for action, pose in after.items():
                if pose not in first:
                    first[pose] = action if (position, heading) == begin else first[position, heading]
                    queue.append(pose)
        return None

    def _reckon(self, action: int, words: Words) -> int:
        if action in (LEFT, RIGHT):
            self._heading = (self._heading + (1 if action == RIGHT else -1)) % 4
        elif action == FORWARD and not (words.is_wall((0, 1)) or (0, 1) in words.things):
            self._position = in_front(self._position, self._heading)
        return action


def in_front(position: Cell, heading: int) -> Cell:
    side, ahead = ((0, 1), (1, 0), (0, -1), (-1, 0))[heading]
    return position[0] + side, position[1] + ahead


def solved(env_id: str, seeds: range) -> int:
    env = make_env(env_id)
    successes = 0
    for seed in seeds:
        words, _ = env.reset(seed=seed)
        solver = WordsOnlySolver(words["instruction"])
        ended = False
        while not ended:
            words, _, terminated, truncated, info = env.step(solver.act(words["observation"]))
            ended = terminated or truncated
        successes += info["is_success"]
    return successes


@pytest.mark.parametrize(("env_id", "least"), [("BabyAI-GoToRedBallNoDists-v0", 20), ("BabyAI-GoToLocal-v0", 18)])
def test_words_are_enough_to_solve(env_id: str, least: int) -> None:
    assert solved(env_id, range(20)) >= least
