"""A small world as a stranger would write it: rooms, things, errands, and actions that change with where one stands.

Its words are in no corpus of Heed's. `HeldOut` is the same world with other things and other rooms.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium

from heed.envs.contract import ChangingActions, language_space

N_ROOMS, N_THINGS, MOST_STEPS = 4, 3, 10

THINGS = ["violin", "rope", "lantern", "kettle", "umbrella", "typewriter", "hammer", "telescope"]
THINGS += ["candle", "pillow", "globe", "saddle", "basket", "drum", "anchor", "mirror"]
ROOMS = ["attic", "cellar", "kitchen", "library", "greenhouse", "stable"]
ROOMS += ["workshop", "nursery", "pantry", "chapel", "laundry", "balcony"]

OTHER_THINGS = ["accordion", "shovel", "teapot", "backpack", "guitar", "broom", "compass", "blanket"]
OTHER_ROOMS = ["garage", "bathroom", "observatory", "bakery", "dungeon", "lobby"]


class Errands(gymnasium.Env[Any, Any]):
    """Bring a thing from the room where it is to another. Whoever puts the right thing down there has done it."""

    things: ClassVar[list[str]] = THINGS
    rooms: ClassVar[list[str]] = ROOMS

    def __init__(self) -> None:
        self.observation_space = language_space(changing_actions=True)
        self.action_space = ChangingActions(N_ROOMS - 1 + N_THINGS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin anew: the thing is in another room than it belongs, and the agent anywhere."""
        super().reset(seed=seed)
        rooms = [self.rooms[i] for i in self.np_random.permutation(len(self.rooms))[:N_ROOMS]]
        things = [self.things[i] for i in self.np_random.permutation(len(self.things))[:N_THINGS]]
        self._rooms, self._thing = rooms, things[0]
        self._target = rooms[0]
        self._where = {one: rooms[int(self.np_random.integers(1, N_ROOMS))] for one in things}
        self._order = [things[i] for i in self.np_random.permutation(N_THINGS)]
        self._here, self._carried, self._steps = rooms[int(self.np_random.integers(N_ROOMS))], "", 0
        return self._seen(), {}

    def step(self, action: int) -> Any:
        """Do what the action says."""
        texts = self._actions()
        if not 0 <= action < len(texts):
            raise ValueError(f"There is no action {action}.")
        verb, name = texts[action].split()[0], texts[action].split()[-1]
        self._steps += 1
        done = False
        if verb == "enter":
            self._here = name
        elif verb == "take":
            self._carried = name
            del self._where[name]
        else:
            done = name == self._thing and self._here == self._target
            self._where[name], self._carried = self._here, ""
        return self._seen(), float(done), done, self._steps >= MOST_STEPS, {"is_success": done}

    def _actions(self) -> tuple[str, ...]:
        doors = [f"enter the {room}" for room in self._rooms if room != self._here]
        if self._carried:
            return (*doors, f"put down the {self._carried}")
        return (*doors, *(f"take the {one}" for one in self._order if self._where.get(one) == self._here))

    def _seen(self) -> dict[str, Any]:
        lying = [f"a {one} is in the {self._where[one]}" for one in self._order if one in self._where]
        carried = f"you carry a {self._carried}" if self._carried else "your hands are empty"
        return {
            "instruction": f"bring the {self._thing} to the {self._target}",
            "observation": "; ".join([f"you are in the {self._here}", carried, *lying]),
            "actions": self._actions(),
        }


class HeldOut(Errands):
    """The same with things and rooms that no training has."""

    things = OTHER_THINGS
    rooms = OTHER_ROOMS


gymnasium.register("Errands-v0", "tests.errands:Errands")
gymnasium.register("ErrandsHeldOut-v0", "tests.errands:HeldOut")
