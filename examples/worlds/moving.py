"""A world of one's own with actions that change, over several steps: "bring the violin to the attic".

    heed check-env ./examples/worlds/moving.py
    heed train --env ./examples/worlds/moving.py --steps 150000
    heed evaluate runs/moving-ppo-seed0 --env-kwargs words=evaluation     # with other rooms and things

Each observation lists what can be done in it: go to another room, take what is here, put down what is carried. Three
or four right actions do an errand, for which there is time for sixteen.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from heed.envs import ChangingActions, language_space

ROOMS = {
    "training": (
        *("attic", "cellar", "pantry", "library", "greenhouse"),
        *("workshop", "balcony", "laundry", "garage", "study"),
    ),
    "evaluation": ("chapel", "dungeon", "stable", "lobby", "vault"),
}
THINGS = {
    "training": (
        *("violin", "lantern", "parasol", "globe", "abacus", "mandolin"),
        *("hammer", "barrel", "easel", "quilt", "trophy", "kite"),
    ),
    "evaluation": ("harp", "bucket", "mirror", "sledge", "tambourine", "wig"),
}
ROOMS_OF_A_HOUSE, THINGS_IN_IT, MOST_STEPS = 4, 3, 16


class Moving(gymnasium.Env[Any, Any]):
    """Things lie about in a house; the episode ends when the named one is put down in the named room.

    Args:
        words: which names there are, "training" or "evaluation": they have none in common.
    """

    def __init__(self, words: str = "training") -> None:
        self.observation_space = language_space(changing_actions=True)
        self.action_space = ChangingActions(ROOMS_OF_A_HOUSE - 1 + THINGS_IN_IT)
        self._all_rooms, self._all_things = ROOMS[words], THINGS[words]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Furnish a house, and ask for one of its things in a room where it is not."""
        super().reset(seed=seed)
        draw = self.np_random.choice
        self._rooms = [str(room) for room in draw(self._all_rooms, size=ROOMS_OF_A_HOUSE, replace=False)]
        things = [str(thing) for thing in draw(self._all_things, size=THINGS_IN_IT, replace=False)]
        self._places = {thing: str(draw(self._rooms)) for thing in things}
        self._room, self._carried = str(draw(self._rooms)), ""
        self._thing = str(draw(things))
        self._goal = str(draw([room for room in self._rooms if room != self._places[self._thing]]))
        return self._words(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Do what the text of the action says."""
        actions = self._actions()
        if not 0 <= action < len(actions):
            raise ValueError(f"There is no action {action} now, only {actions}.")
        verb, _, name = actions[int(action)].rpartition(" the ")
        success = False
        if verb == "go to":
            self._room = name
        elif verb == "take":
            self._carried = name
        else:
            success = (self._carried, self._room) == (self._thing, self._goal)
            self._carried = ""
        if self._carried:
            self._places[self._carried] = self._room
        return self._words(), float(success), success, False, {"is_success": success}

    def _actions(self) -> tuple[str, ...]:
        here = [thing for thing, room in self._places.items() if room == self._room]
        hands = [f"put down the {self._carried}"] if self._carried else [f"take the {thing}" for thing in here]
        return (*(f"go to the {room}" for room in self._rooms if room != self._room), *hands)

    def _words(self) -> dict[str, Any]:
        things = [
            f"{thing} in your hands" if thing == self._carried else f"{thing} in the {room}"
            for thing, room in self._places.items()
        ]
        return {
            "instruction": f"bring the {self._thing} to the {self._goal}",
            "observation": "; ".join([f"you are in the {self._room}", *things]),
            "actions": self._actions(),
        }


gymnasium.register(id="Moving-v0", entry_point=f"{__name__}:Moving", max_episode_steps=MOST_STEPS)
