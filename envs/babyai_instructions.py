"""Which instructions of a BabyAI level an episode fulfils, beside the one that it was given.

`FulfilledInstructions` tells after each step which other instructions, had they been given, the step would have
fulfilled, and what reward it would have brought: what hindsight replay learns from (`heed.agents.hindsight`).

BabyAI's own instructions and verifiers decide, so an episode in hindsight is to the last bit the episode that the level
would have given. What is done here is to ask them seldom: a step of an environment takes 50 microseconds, and a level
with 20 things has hundreds of instructions. A verifier is asked only where its answer can have changed: those of
"go to" about what is in front of the agent, the others after the action that they speak of. For these the start, when
`reset_verifier` would look over the whole grid for what a description matches, is done once for all of them.

An instruction is told once in an episode, when it is fulfilled first, since the episode would have ended there.

Which instructions: those of the kinds (go to, pick up, open, put next to) and wordings ("a red ball", "the ball") of
the episode's own, about the things that were there at the start. Of a sequence ("..., then ...") these are its parts.
Of an episode whose instruction speaks of a place ("the ball on your left") nothing is told: its observations speak of
that place too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
from minigrid.core.world_object import Door, WorldObj
from minigrid.envs.babyai.core import verifier
from minigrid.envs.babyai.core.verifier import (
    OBJ_TYPES,
    ActionInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
    SeqInstr,
    pos_next_to,
)

Place = tuple[int, int]
"""A cell of the grid."""

Wording = tuple[bool, bool, bool]
"""Whether a description names the type and the color, and whether it may be of a door."""


class FulfilledInstructions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Offers `fulfilled_instructions` around a BabyAI level; until that is called it costs next to nothing."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._level: Any = env.unwrapped
        self._action: Any = None
        self._episode: _Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, in which nothing is fulfilled."""
        self._episode = None
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
        if self._episode is None:
            self._episode = _Episode(self._level)
            return {}
        return self._episode.after(self._action)


class _Description(ObjDesc):
    """A description of the things that matched it at the episode's start."""

    def __init__(self, kind: str | None, color: str | None, things: list[tuple[WorldObj, Place]]):
        super().__init__(kind, color)  # type: ignore[no-untyped-call]
        self.obj_set = [thing for thing, _ in things]
        self.obj_poss = [place for _, place in things]
        self.start_positions = list(self.obj_poss)

    def find_matching_objs(self, env: Any, use_location: bool = True) -> tuple[list[WorldObj], list[Place]]:
        """Keep to the things of the start; with `use_location=False`, after a drop, see where they are."""
        if not use_location:
            level = env.unwrapped
            places = [(thing, thing.cur_pos) for thing in self.obj_set if thing is not level.carrying]
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
        speaks_of_places = any(desc.loc for part in parts for desc in _descriptions_of(part))
        if speaks_of_places or verifier.use_done_actions:
            parts = []
        self._things = list(_things(level)) if parts else []
        self._described: dict[tuple[str | None, str | None], _Description] = {}
        self._go_to = self._descriptions(part.desc for part in parts if isinstance(part, GoToInstr))
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
        for description in self._described.values():
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

    def _descriptions(self, models: Iterable[ObjDesc]) -> list[_Description]:
        """Return the descriptions, in the wordings of `models`, of all things that may be spoken of."""
        found: dict[tuple[str | None, str | None], _Description] = {}
        wordings = {_wording(model): model for model in models}
        for (typed, colored, _), model in wordings.items():
            for thing, _ in self._things:
                if model.type is not None and (thing.type == "door") != (model.type == "door"):
                    continue
                key = (thing.type if typed else None, thing.color if colored else None)
                if key in found or (key[0] == "key" and key[1] in self._locked_colors):
                    continue
                found[key] = self._description(key)
        return list(found.values())

    def _description(self, key: tuple[str | None, str | None]) -> _Description:
        """Return the one description of a type and a color."""
        if key not in self._described:
            kind, color = key
            matching = [
                (thing, place)
                for thing, place in self._things
                if kind in (None, thing.type) and color in (None, thing.color)
            ]
            self._described[key] = _Description(kind, color, matching)
        return self._described[key]

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


def _descriptions_of(part: Any) -> list[ObjDesc]:
    return [part.desc_move, part.desc_fixed] if isinstance(part, PutNextInstr) else [part.desc]


def _wording(description: ObjDesc) -> Wording:
    return description.type is not None, description.color is not None, description.type in (None, "door")


def _things(level: Any) -> Iterator[tuple[WorldObj, Place]]:
    """Yield what the level can speak of, and where it is, as the episode's own verifier found it."""
    width = level.grid.width
    for index, thing in enumerate(level.grid.grid):
        if thing is not None and thing.type in OBJ_TYPES:
            yield thing, (index % width, index // width)
    if level.carrying is not None:  # handed to the agent after its place was looked up
        x, y = level.carrying.init_pos
        yield level.carrying, (int(x), int(y))


def _by_place(descriptions: Iterable[_Description]) -> dict[Place, list[_Description]]:
    found: dict[Place, list[_Description]] = {}
    for description in descriptions:
        for place in description.obj_poss:
            found.setdefault(place, []).append(description)
    return found


def _can_be_asked(move: _Description, goal: _Description) -> bool:
    """Say whether a level would ask for this: nothing is put next to itself or to what it stood beside at first."""
    if any(thing is other for thing in move.obj_set for other in goal.obj_set):
        return False
    return not any(pos_next_to(here, there) for here in move.start_positions for there in goal.start_positions)
