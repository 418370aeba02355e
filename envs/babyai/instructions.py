"""Which instructions of a BabyAI level an episode fulfils, beside the one that it was given.

`FulfilledInstructions` tells after each step which other instructions, had they been given, the step would have
fulfilled, and what reward it would have brought: what hindsight replay learns from (`heed.agents.replay.hindsight`).

BabyAI's own instructions and verifiers decide, so an episode in hindsight is to the last bit the episode that the level
would have given. What is done here is to ask them seldom: a step of an environment takes 50 microseconds, and a level
with 20 things has hundreds of instructions. A verifier is asked only where its answer can have changed: those of
"go to" about what is in front of the agent, the others after the action that they speak of. For these the start, when
`reset_verifier` would look over the whole grid for what a description matches, is done once for all of them.

An instruction is told once in an episode, when it is fulfilled first, since the episode would have ended there.

Which instructions: those of the kinds (go to, pick up, open, put next to) and wordings ("a red ball", "the ball", "the
ball on your left", "the ball left of the box") of the episode's own, about the things that were there at the start. Of
a sequence ("..., then ...") these are its parts. Where the episode's own speaks of a place, its observations tell where
the episode began, and only instructions that speak of a place too are told.

`possible_instructions` lists those of them that are about other things than the episode's own, and
`impossible_instructions` such as speak of things that are not there: what an evaluation shows in place of the true
instruction (`heed.evaluation.axes`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np
from minigrid.core.constants import COLOR_NAMES, DIR_TO_VEC
from minigrid.core.world_object import Door, WorldObj
from minigrid.envs.babyai.core import verifier
from minigrid.envs.babyai.core.verifier import (
    OBJ_TYPES,
    OBJ_TYPES_NOT_DOOR,
    ActionInstr,
    AfterInstr,
    AndInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
    SeqInstr,
    pos_next_to,
)

from heed.envs.babyai.grammar import JOINTS, Order
from heed.envs.babyai.reach import apart_from, descriptions_of, is_done_already
from heed.envs.babyai.relations import RelatedDescription
from heed.envs.wording.pairs import is_kept_for_evaluations

Place = tuple[int, int]
"""A cell of the grid."""

Named = tuple[str | None, str | None, str | None]
"""What a description says of a thing: its type, its color, and on which side of the agent's start it was."""

Wording = tuple[bool, bool, bool, bool]
"""Whether a description names the type, the color and the side, and whether it may be of a door."""

SIDES = {"left": "on your left", "right": "on your right", "front": "in front of you", "behind": "behind you"}
"""BabyAI's names of the sides, and the words for them."""


class FulfilledInstructions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Offers what an environment may tell of its instructions (`heed.envs.contract`) around a BabyAI level.

    Until one of them is called it costs next to nothing. The first call of an episode wants to be right after its
    reset: they look at the world as the episode began.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._level: Any = env.unwrapped
        self._action: Any = None  # since the episode's first step
        self._episode: _Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in which nothing is fulfilled."""
        self._episode = self._action = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        self._action = action
        return self.env.step(action)

    def fulfilled_instructions(self) -> dict[str, float]:
        """Return what the last step fulfilled for the first time in this episode; call it after reset and each step.

        Returns:
            Each instruction with the reward that the step would have brought.
        """
        if self._episode is None or self._action is None:
            self._looked_at()
            return {}
        return self._episode.after(self._action)

    def possible_instructions(self) -> tuple[str, ...]:
        """Return what can be done in this episode's world in place of its own instruction, sorted.

        That is what `fulfilled_instructions` can come to tell, but for what the own one, or a part of it, is about too:
        "the ball on your left" may be the ball in front of you, and whoever picks up a thing has gone to it. Nor is
        there what is done as the episode begins, what is on the way to the own one (the key to the room that it is in),
        or what the own one is on the way to.
        """
        return tuple(sorted(self._looked_at().possible()))

    def impossible_instructions(self) -> tuple[str, ...]:
        """Return instructions like the episode's own about things that are not there, sorted.

        They are worded as the episode's own, unless all that can be said so is there: then they name type and color.
        Where the own one puts a thing next to another, one of the two is not there.
        """
        return tuple(sorted(self._looked_at().impossible()))

    def give_two_parts(self, generator: np.random.Generator) -> str | None:
        """Make the episode's own instruction one of two parts, "and", "then" or "after you"; call it after a reset.

        The other part is one of `possible_instructions`. BabyAI's own verifiers decide, in their strict mode: who does
        the second part before the first has failed, and the episode ends there. The time is that of both.

        Args:
            generator: draws the other part, the order, and which of the two is said first.

        Returns:
            The instruction; None where it has parts already, where nothing else can be done, or where all such pairs
            are kept for evaluations (`heed.envs.wording.pairs`).
        """
        level, own = self._level, self._level.mission
        if not isinstance(level.instrs, ActionInstr):
            return None
        others = self._looked_at().other_instructions()
        fitting = sorted(words for words in others if not is_kept_for_evaluations(own, words))
        if not fitting:
            return None
        words = fitting[int(generator.integers(len(fitting)))]
        order = list(JOINTS)[int(generator.integers(len(JOINTS)))]
        parts = [(own, level.instrs), (words, _afresh(others[words]))]
        (first, one), (second, other) = parts if generator.random() < 0.5 else parts[::-1]
        level.instrs = _SEQUENCES[order](one, other, strict=order != "and")
        level.mission = f"{first}{JOINTS[order]}{second}"
        level.instrs.reset_verifier(level)
        if not level.fixed_max_steps:
            rooms = level.num_rows * level.num_cols
            level.max_steps = level.num_navs_needed(level.instrs) * level.room_size**2 * rooms
        self._episode = None  # which is about the instruction before
        return str(level.mission)

    def fulfilled_parts(self) -> tuple[str, ...]:
        """Return the parts of the episode's own instruction that its verifier counts as done, as they are said.

        A part that was done before its time ("..., then ...") is not among them, until it is done again.
        """
        # Words of the mission: a part's own `surface` looks for its things anew, and so changes its verifier.
        words = re.split(_JOINTS, self._level.mission)
        done = _parts_done(self._level.instrs)
        return tuple(part for part, is_done in zip(words, done, strict=True) if is_done)

    def _looked_at(self) -> _Episode:
        """Return the running episode; the first call looks over the grid."""
        if self._episode is None:
            self._episode = _Episode(self._level)
        return self._episode


_JOINTS = re.compile("|".join(JOINTS.values()))
_SEQUENCES: dict[Order, type[Any]] = {"then": BeforeInstr, "after": AfterInstr, "and": AndInstr}
_VERBS: dict[type[Any], str] = {GoToInstr: "go to", OpenInstr: "open", PickupInstr: "pick up"}


class _Description(ObjDesc):
    """A description of the things that matched it at the episode's start."""

    def __init__(self, named: Named, things: list[tuple[WorldObj, Place]]):
        super().__init__(*named)  # type: ignore[no-untyped-call]
        self.obj_set = [thing for thing, _ in things]
        self.obj_poss = [place for _, place in things]
        self.start_positions = list(self.obj_poss)

    def surface(self, env: Any) -> str:
        """Return BabyAI's words, which count the walls among the grey objects: there is always "a grey object"."""
        words: str = super().surface(env)  # type: ignore[no-untyped-call]
        return words.replace("the ", "a ", 1) if _is_of_walls_too(self.type, self.color) else words

    def find_matching_objs(self, env: Any, use_location: bool = True) -> tuple[list[WorldObj], list[Place]]:
        """Keep to the things of the start; with `use_location=False`, after a drop, see where they are."""
        if not use_location:
            level = env.unwrapped
            # A thing that a level sets into its grid by hand, as BlockedUnlockPickup does, has no place of its own yet.
            places = [
                (thing, start if thing.cur_pos is None else thing.cur_pos)
                for thing, start in zip(self.obj_set, self.start_positions, strict=True)
                if thing is not level.carrying
            ]
            self.obj_poss = [(int(x), int(y)) for thing, (x, y) in places if level.grid.get(x, y) is thing]
        return self.obj_set, self.obj_poss


class _Episode:
    """What the instructions of one episode have come to."""

    def __init__(self, level: Any):
        """Look over the grid, right after a reset."""
        self._level = level
        self._actions = level.actions
        self._fulfilled: set[str] = set()
        self._carried: WorldObj | None = None  # before the last step; verifiers, too, begin with None
        parts = list(_parts(level.instrs))
        if any(_speaks_of_a_place(part) for part in parts):
            parts = [part for part in parts if _speaks_of_a_place(part)]
        if verifier.use_done_actions:
            parts = []
        self._parts = parts
        self._things = list(_things(level)) if parts else []
        self._described: dict[Named, _Description] = {}
        self._related: list[RelatedDescription] = []
        self._go_to = self._go_to_descriptions([part.desc for part in parts if isinstance(part, GoToInstr)])
        self._open = self._instructions(parts, OpenInstr)
        self._pick_up = self._instructions(parts, PickupInstr)
        put_next = [part for part in parts if isinstance(part, PutNextInstr)]
        self._put_next = {
            (_wording(part.desc_move), _wording(part.desc_fixed), part.strict): (
                self._descriptions([part.desc_move]),
                self._descriptions([part.desc_fixed]),
            )
            for part in put_next
        }
        self._in_front = _by_place(self._go_to)
        self._moved = False  # whether something has changed since the descriptions looked where things are

    def after(self, action: Any) -> dict[str, float]:
        """Return what the step with `action` fulfilled for the first time, each with its reward."""
        level, carried = self._level, self._carried
        self._carried = level.carrying
        candidates: list[ActionInstr] = []
        if action == self._actions.drop:
            # A level's verifiers look where things are after this action only, whether anything was dropped or not.
            if self._moved or carried is not None:
                self._look_again()
            if carried is not None:
                candidates += self._put_next_with(carried)
        elif action == self._actions.toggle:
            self._moved = True
            candidates += self._open
        elif action == self._actions.pickup:
            self._moved = True
            candidates += self._pick_up
            if level.carrying is not None:  # then a strict "put next to" fails
                self._put_next = {key: value for key, value in self._put_next.items() if not key[2]}
        if self._go_to:
            x, y = level.front_pos
            candidates += [GoToInstr(description) for description in self._in_front.get((int(x), int(y)), ())]
        return self._verified(candidates, action, carried) if candidates else {}

    def _look_again(self) -> None:
        for description in (*self._described.values(), *self._related):
            description.find_matching_objs(self._level, use_location=False)
        self._in_front = _by_place(self._go_to)
        self._moved = False

    def _verified(self, candidates: Iterable[ActionInstr], action: Any, carried: WorldObj | None) -> dict[str, float]:
        found = {}
        for instruction in candidates:
            instruction.env = self._level
            if isinstance(instruction, PickupInstr | PutNextInstr):
                instruction.preCarrying = carried
            status = instruction.verify(action)
            if status == "failure":  # only a strict one fails, which ends an episode
                self._open = [other for other in self._open if other is not instruction]
                self._pick_up = [other for other in self._pick_up if other is not instruction]
            if status != "success":
                continue
            words = instruction.surface(self._level)
            reward = None if words in self._fulfilled else self._reward(instruction)
            if reward is not None:
                self._fulfilled.add(words)
                found[words] = reward
        return found

    def _put_next_with(self, thing: WorldObj) -> Iterator[PutNextInstr]:
        """Yield the instructions to put `thing`, which was just dropped, next to another."""
        for (_, _, strict), (movable, fixed) in self._put_next.items():
            for move in movable:
                if not any(thing is other for other in move.obj_set):
                    continue
                for goal in fixed:
                    if _can_be_asked(move, goal):
                        yield PutNextInstr(move, goal, strict=strict)

    def _reward(self, instruction: ActionInstr) -> float | None:
        """Return the level's reward for fulfilling `instruction` now; None where its time would have been over.

        A level's time goes with how many places its instruction sends the agent to.
        """
        level = self._level
        allowed = level.max_steps
        if not level.fixed_max_steps:
            allowed = allowed * level.num_navs_needed(instruction) // level.num_navs_needed(level.instrs)
        if level.step_count > allowed:
            return None
        own, level.max_steps = level.max_steps, allowed
        try:
            return float(level._reward())
        finally:
            level.max_steps = own

    def _instructions(self, parts: Iterable[ActionInstr], kind: type[Any]) -> list[ActionInstr]:
        """Return all instructions of a kind that speaks of one thing, in the strictness of `parts`."""
        alike = [part for part in parts if isinstance(part, kind)]
        return [
            kind(description, strict=strict)
            for strict in {part.strict for part in alike}
            for description in self._descriptions(part.desc for part in alike if part.strict == strict)
        ]

    def _go_to_descriptions(self, models: Collection[ObjDesc]) -> list[ObjDesc]:
        """Return the same of "go to", which may name things by their relations."""
        related = [model for model in models if isinstance(model, RelatedDescription)]
        if related:
            self._related = list(related[0].alike())
        return [*self._related, *self._descriptions(model for model in models if model not in related)]

    def _descriptions(self, models: Iterable[ObjDesc]) -> list[_Description]:
        """Return the descriptions, in the wordings of `models`, of all things that may be spoken of."""
        found: dict[Named, _Description] = {}
        wordings = {_wording(model): model for model in models}
        for (typed, colored, located, _), model in wordings.items():
            for thing, place in self._things:
                if model.type is not None and (thing.type == "door") != (model.type == "door"):
                    continue
                if thing.type == "key" and typed and colored and thing.color in self._locked_colors:
                    continue
                for side in _sides_of(self._level, place) if located else (None,):
                    named = (thing.type if typed else None, thing.color if colored else None, side)
                    if named not in found:
                        found[named] = self._description(named)
        return list(found.values())

    def _description(self, named: Named) -> _Description:
        """Return the one description of a type, a color and a side."""
        if named not in self._described:
            kind, color, side = named
            matching = [
                (thing, place)
                for thing, place in self._things
                if kind in (None, thing.type)
                and color in (None, thing.color)
                and (side is None or side in _sides_of(self._level, place))
            ]
            self._described[named] = _Description(named, matching)
        return self._described[named]

    def possible(self) -> set[str]:
        """Return the words of all instructions that can come to be fulfilled without the episode's own."""
        return set(self.other_instructions())

    def other_instructions(self) -> dict[str, Any]:
        """Return the same, each with BabyAI's instruction."""
        candidates: list[Any] = [GoToInstr(description) for description in self._go_to]
        candidates += [*self._open, *self._pick_up]
        for movable, fixed in self._put_next.values():
            candidates += [PutNextInstr(move, goal) for move in movable for goal in fixed if _can_be_asked(move, goal)]
        own = list(_parts(self._level.instrs))
        others = [other for other in candidates if not any(_is_done_with(part, other) for part in own)]
        others = [other for other in others if not is_done_already(self._level, other)]
        things = [thing for thing, _ in self._things]
        return {other.surface(self._level): other for other in apart_from(self._level, own, others, things)}

    def impossible(self) -> set[str]:
        """Return the words of instructions about what is not there."""
        found = {words for part in self._parts for words in self._impossible(part, _names_like)}
        return found or {words for part in self._parts for words in self._impossible(part, _full_names_like)}

    def _impossible(self, part: Any, names_like: Any) -> Iterator[str]:
        """Yield instructions of the kind of `part` about what is not there; `names_like` names what to look for."""
        if not isinstance(part, PutNextInstr):
            related = isinstance(part.desc, RelatedDescription)
            absent = part.desc.of_nothing() if related else self._absent(names_like(part.desc))
            yield from (f"{_VERBS[type(part)]} {words}" for words in absent)
            return
        for fixed in self._descriptions([part.desc_fixed]):
            there = fixed.surface(self._level)
            yield from (f"put {words} next to {there}" for words in self._absent(names_like(part.desc_move)))
        for move in self._descriptions([part.desc_move]):
            there = move.surface(self._level)
            yield from (f"put {there} next to {words}" for words in self._absent(names_like(part.desc_fixed)))

    def _absent(self, names: Iterable[Named]) -> Iterator[str]:
        """Yield the words for those of `names` that are of nothing at all, wherever it might be."""
        for kind, color, side in names:
            if not self._description((kind, color, None)).obj_set and not _is_of_walls_too(kind, color):
                yield " ".join(filter(None, ("the", color, kind or "object", SIDES.get(side or ""))))

    @property
    def _locked_colors(self) -> set[str]:
        """Of whose keys the level never speaks: colors of locked doors, where things may stand in the way."""
        if not getattr(self._level, "unblocking", False):
            return set()
        return {thing.color for thing, _ in self._things if isinstance(thing, Door) and thing.is_locked}


def _parts(instruction: Instr) -> Iterator[Any]:
    """Yield the parts of a sequence, or the instruction itself."""
    if isinstance(instruction, SeqInstr):
        yield from _parts(instruction.instr_a)
        yield from _parts(instruction.instr_b)
    elif isinstance(instruction, ActionInstr):
        yield instruction


def _parts_done(instruction: Any, *, done: bool = False) -> Iterator[bool]:
    """Yield for each part whether it is done: of a sequence the verifier keeps it, of a part alone nobody does."""
    if isinstance(instruction, SeqInstr):
        sequence: Any = instruction  # each kind of it sets what is done when it is reset
        yield from _parts_done(sequence.instr_a, done=done or sequence.a_done == "success")
        yield from _parts_done(sequence.instr_b, done=done or sequence.b_done == "success")
    else:
        yield done


def _afresh(instruction: Any) -> Any:
    """Return an instruction with descriptions that are BabyAI's own, as a level would have made it."""
    if isinstance(instruction, PutNextInstr):
        return PutNextInstr(_plain(instruction.desc_move), _plain(instruction.desc_fixed), strict=instruction.strict)
    if isinstance(instruction, GoToInstr):
        return GoToInstr(_plain(instruction.desc))
    return type(instruction)(_plain(instruction.desc), strict=instruction.strict)


def _plain(description: ObjDesc) -> ObjDesc:
    return ObjDesc(description.type, description.color, description.loc)


def _is_done_with(own: Any, other: Any) -> bool:
    """Say whether who does `own` may have done `other`, since both are about the same things."""
    ours, theirs = descriptions_of(own), descriptions_of(other)
    if isinstance(other, PutNextInstr):
        return isinstance(own, PutNextInstr) and all(map(_share_a_thing, ours, theirs))
    return any(_share_a_thing(description, theirs[0]) for description in ours)


def _share_a_thing(one: ObjDesc, other: ObjDesc) -> bool:
    return any(thing is another for thing in one.obj_set for another in other.obj_set)


def _speaks_of_a_place(part: Any) -> bool:
    return any(
        description.speaks_of_the_start if isinstance(description, RelatedDescription) else description.loc is not None
        for description in descriptions_of(part)
    )


def _wording(description: ObjDesc) -> Wording:
    named = (description.type, description.color, description.loc)
    typed, colored, located = (part is not None for part in named)
    return typed, colored, located, description.type in (None, "door")


def _names_like(model: ObjDesc) -> Iterator[Named]:
    """Yield all that can be said in the wording of `model`; doors in place of doors only."""
    kinds = [None] if model.type is None else ["door"] if model.type == "door" else OBJ_TYPES_NOT_DOOR
    for kind in kinds:
        for color in COLOR_NAMES if model.color is not None else [None]:
            yield from ((kind, color, side) for side in (SIDES if model.loc is not None else (None,)))


def _full_names_like(model: ObjDesc) -> Iterator[Named]:
    """Yield the same with type and color, whether `model` names them or not."""
    return _names_like(ObjDesc(model.type or "ball", COLOR_NAMES[0], model.loc))


def _is_of_walls_too(kind: str | None, color: str | None) -> bool:
    return kind is None and color == "grey"


def _sides_of(level: Any, place: Place) -> Collection[str]:
    """Return on which sides of the agent something at `place` is, as BabyAI has it; of another room's things none."""
    x, y = level.agent_pos
    if not level.room_from_pos(x, y).pos_inside(*place):
        return ()
    forward_x, forward_y = DIR_TO_VEC[level.agent_dir]
    ahead = (place[0] - x) * forward_x + (place[1] - y) * forward_y
    right = (place[1] - y) * forward_x - (place[0] - x) * forward_y
    sides = (("right", right > 0), ("left", right < 0), ("front", ahead > 0), ("behind", ahead < 0))
    return [side for side, is_there in sides if is_there]


def _things(level: Any) -> Iterator[tuple[WorldObj, Place]]:
    """Yield what the level can speak of, and where it is, as the episode's own verifier found it."""
    width = level.grid.width
    for index, thing in enumerate(level.grid.grid):
        if thing is not None and thing.type in OBJ_TYPES:
            yield thing, (index % width, index // width)
    if level.carrying is not None:  # handed to the agent after its place was looked up
        x, y = level.carrying.init_pos
        yield level.carrying, (int(x), int(y))


def _by_place(descriptions: Iterable[ObjDesc]) -> dict[Place, list[ObjDesc]]:
    found: dict[Place, list[ObjDesc]] = {}
    for description in descriptions:
        for place in description.obj_poss:
            found.setdefault(place, []).append(description)
    return found


def _can_be_asked(move: _Description, goal: _Description) -> bool:
    """Say whether a level would ask for this: nothing is put next to itself or to what it stood beside at first."""
    if _share_a_thing(move, goal):
        return False
    return not any(pos_next_to(here, there) for here in move.start_positions for there in goal.start_positions)
