"""MiniWorld in words: rooms in three dimensions, seen in the first person (the library's own ids, `MiniWorld-*`).

Chevalier-Boisvert et al. 2023 (arXiv 2306.13831). The observation has MiniWorld's picture under `image`, shape (60,
80, 3), and what is in view in words (`heed.envs.worlds.miniworld.sight`). The words come from the simulator's state
and not from the picture: they know names, angles and distances exactly, as no eye would. `MiniWorldVerbalizer(env,
words="none")` leaves them out, for an agent that is to read the picture.

Each environment has its instruction (`heed.envs.worlds.miniworld.tasks`). `Sign` gets another sign and goal in each
episode unless it is made with its own; `RoomObjects` and `ThreeRooms`, which have no task, that of going to one of
their things.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from heed.envs.words.verbalize import Verbalizer
from heed.envs.worlds.extra import load
from heed.envs.worlds.miniworld.sight import Thing, View, words_for
from heed.envs.worlds.miniworld.tasks import (
    FIXED,
    ROOM_OBJECTS_STEPS,
    SIGN_SHAPES,
    GoToThing,
    SignDrawn,
)

SYSTEM_PACKAGES = "libegl1 libgl1 libglu1-mesa libgl1-mesa-dri"

pyglet = load("pyglet")
if "PYGLET_HEADLESS" not in os.environ:  # whoever wants a window sets it to false
    pyglet.options["headless"] = True  # before anything of it is imported that opens a display
miniworld = load("miniworld", system=SYSTEM_PACKAGES)
entities = load("miniworld.entity")

WORDS = ("entities", "none")
"""Whether the observation says what is in view."""
LOOK = "look at the picture"
"""All that the observation says with `words="none"`."""
NOTHING = "nothing"

_MESHES = {"duckie": "rubber duck", "medkit": "medical kit", "cone": "traffic cone", "building": ""}
_ACTIONS = {"pickup": "pick up"}


class MiniWorldVerbalizer(Verbalizer):
    """Words and the picture of a MiniWorld environment.

    Args:
        env: any of MiniWorld's.
        words: "entities" says what is in view, from the simulator's state; "none" leaves that to the picture.

    Raises:
        TypeError: if it is no MiniWorld environment.
        ValueError: if `words` is neither.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, words: str = "entities"):
        if words not in WORDS:
            raise ValueError(f"`words` must be one of {', '.join(WORDS)}, but is {words!r}.")
        world: Any = env.unwrapped
        if not isinstance(world, miniworld.miniworld.MiniWorldEnv):
            raise TypeError(f"This verbalizer needs a MiniWorld environment, not {type(world).__name__}.")
        give_own_display_list(world)
        self._kind = type(world).__name__
        made_with = env.spec.kwargs if env.spec is not None else {}
        if self._kind == "Sign" and not made_with.keys() & {"color_index", "goal"}:
            env = SignDrawn(env)
        elif self._kind in ("RoomObjects", "ThreeRooms"):
            env = GoToThing(env, goal_name_of)
            if not math.isfinite(world.max_episode_steps) and (env.spec is None or env.spec.max_episode_steps is None):
                env = TimeLimit(env, ROOM_OBJECTS_STEPS)
        super().__init__(env)
        self._world = world
        self._words = words

    def instruction(self, observation: Any) -> str:
        """Return the episode's task."""
        if self._kind == "Sign":
            return f"go to the {SIGN_SHAPES[observation['goal']]} of the colour that the sign on the wall says"
        if self._kind == "PickupObjects":
            return f"pick up all {self._world.num_objs} things"
        if self._kind in FIXED:
            return FIXED[self._kind]
        try:
            return str(self.env.get_wrapper_attr("instruction")())
        except AttributeError:
            return "collect as much reward as you can"  # of an environment that is not MiniWorld's own

    def observation(self, observation: Any) -> str:
        """Return what is in view, and what is carried."""
        if self._words == "none":
            return LOOK
        parts = words_for(self._view())
        carried = self._world.agent.carrying
        if carried is not None:
            parts.append(f"carrying {name_of(carried)}")
        if self._kind == "CollectHealth":
            parts.append(f"health {self._world.health}")
        return "; ".join(parts) or NOTHING

    def action_texts(self) -> tuple[str, ...]:
        """Return MiniWorld's own names of the actions that the environment has."""
        n_actions = int(self.env.action_space.n)  # type: ignore[attr-defined]
        names = [action.name for action in self._world.actions][:n_actions]
        if self._kind == "Sign":
            names[-1] = "end the episode"
        return tuple(_ACTIONS.get(name) or name.replace("_", " ") for name in names)

    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Return the space of the picture."""
        space: Any = self._world.observation_space
        return {"image": space["obs"] if isinstance(space, spaces.Dict) else space}

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return the picture."""
        return {"image": observation["obs"] if isinstance(observation, dict) else observation}

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the task was done: in CollectHealth to be alive at the end, elsewhere an end with a reward."""
        if self._kind == "CollectHealth":
            return not terminated
        return super().is_success(reward, terminated, info)

    def _view(self) -> View:
        agent = self._world.agent
        across = self._world.obs_fb.width / self._world.obs_fb.height
        x, eye, z = agent.cam_pos
        return View(
            place=(float(x), float(z)),
            direction=float(agent.dir),
            width=2 * math.atan(math.tan(math.radians(agent.cam_fov_y) / 2) * across),
            height=math.radians(agent.cam_fov_y),
            eye=float(eye),
            things=[
                _thing(entity) for entity in self._world.entities if entity is not agent.carrying and name_of(entity)
            ],
            walls=np.asarray(self._world.wall_segs, np.float64)[:, :, [0, 2]],
        )


def give_own_display_list(world: Any) -> None:
    """Have an environment draw its own rooms, whatever other environments the process has.

    MiniWorld compiles what does not move in an episode into the display list number 1, and the environments of a
    process share their lists: each would draw the rooms of the one that was reset last.
    """
    library = miniworld.miniworld
    world.shadow_window.switch_to()
    own = library.pyglet.gl.glGenLists(1)
    names = ("glNewList", "glCallList", "glDeleteLists")

    def with_own_list(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def draw(*args: Any, **kwargs: Any) -> Any:
            world.shadow_window.switch_to()
            originals = {name: getattr(library, name) for name in names}
            for name, original in originals.items():
                setattr(library, name, lambda _, *more, original=original: original(own, *more))
            try:
                return method(*args, **kwargs)
            finally:
                for name, original in originals.items():
                    setattr(library, name, original)

        return draw

    world._render_static = with_own_list(world._render_static)
    world._render_world = with_own_list(world._render_world)


def name_of(entity: Any) -> str:
    """Return what an entity is called, as "red box"; "" for what is no thing: the agent, and buildings far away."""
    if isinstance(entity, entities.Agent):
        return ""
    if isinstance(entity, entities.Box):
        return f"{entity.color} box"
    if isinstance(entity, entities.TextFrame):
        return f"sign that says {entity.str.lower()}"
    if isinstance(entity, entities.ImageFrame):
        return "picture on the wall"
    if isinstance(entity, entities.MeshEnt):
        mesh = _mesh_of(entity)
        kind, _, color = mesh.partition("_")
        if kind in ("key", "ball") and color:
            return f"{color} {kind}"
        return _MESHES.get(mesh, mesh.replace("_", " "))
    return str(type(entity).__name__).lower()


def _mesh_of(entity: Any) -> str:
    """Return the name of an entity's mesh: entities keep the mesh, and the library keeps which file it is from."""
    files = load("miniworld.objmesh").ObjMesh.cache
    path: str = next(path for path, mesh in files.items() if mesh is entity.mesh)
    return os.path.splitext(os.path.basename(path))[0]


def goal_name_of(entity: Any) -> str:
    """Return what an entity is called that can be gone to; "" for others, such as what hangs on a wall."""
    return "" if isinstance(entity, entities.TextFrame | entities.ImageFrame) else name_of(entity)


def _thing(entity: Any) -> Thing:
    flat = isinstance(entity, entities.TextFrame | entities.ImageFrame)
    x, y, z = (float(part) for part in entity.pos)
    return Thing(
        name=name_of(entity),
        place=(x, z),
        radius=float(entity.width / 2 if flat else entity.radius),
        bottom=y - float(entity.height) / 2 if flat else y,  # a frame's place is its middle
        top=y + float(entity.height) / 2 if flat else y + float(entity.height),
        front=float(entity.dir) if flat else None,
    )
