"""The algorithms by name: what each is and has. A new one is its file and one line here.

From these lines come the options and defaults of `heed train`, what a checkpoint's class is, what `heed memory` counts
and how `heed check-agent` trains. Nothing else in Heed compares an agent's name with anything. This module imports no
algorithm, since that takes seconds; `Algorithm.agent_class` does.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

ENTRY_POINT_GROUP = "heed.agents"
"""Packages add algorithms of their own in this entry point group. The modules of its values are imported by every
command, so they should import nothing heavy: an `Algorithm` only names the place of its class."""

_SHORT = {"n_steps": 8, "batch_size": 64, "learning_rate": 3e-3, "ent_coef": 0.1}
# At 3e-3 a gradient of so few steps leaves some models unable to see a picture.
_SHORT_ROLLOUT = {"n_steps": 4, "learning_rate": 2e-3, "ent_coef": 0.1}
_SHORT_REPLAY = {
    "learning_starts": 64,
    "buffer_size": 2_000,
    "batch_size": 64,
    "gradient_steps": 1,
    "target_update_interval": 64,
    "learning_rate": 3e-3,
}


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What an algorithm is and has; unless said otherwise, what PPO has."""

    place: str
    """Where its class is: "package.module:Class"."""
    language_model: bool = True
    """Whether a language model acts, and not a table."""
    policy_gradient: bool = True
    """Whether it learns a policy (`heed.agents.policy_gradient`); otherwise values, by which it chooses."""
    value_function: bool = True
    """Whether it learns what states are worth."""
    replay_buffer: bool = False
    """Whether it learns from a replay buffer (`heed.agents.replay`), towards the values of a target network."""
    minibatches: bool = True
    """Whether it learns from parts of what it gathered, and not from a rollout as a whole."""
    groups: bool = False
    """Whether it compares episodes that begin alike."""
    steps: int = 150_000
    """Environment steps that `heed train` takes unless told otherwise."""
    n_envs: int = 32
    """Environments side by side, likewise."""
    stop_at_success: float = 1.0
    """Share of episodes that succeed at which it stops early, likewise; more than 1 for never."""
    exploration_temperature: float | None = None
    """At which the best actions share, where it explores epsilon-greedily."""
    log_interval: int = 1
    """Between two lines of the log: rollouts of a policy gradient, episodes of others."""
    probing: Mapping[str, Any] = field(default_factory=lambda: _SHORT)
    """Arguments that suit the short episodes of `heed check-agent`."""

    @property
    def class_name(self) -> str:
        """The name of its class, as checkpoints hold it."""
        return self.place.partition(":")[2]

    @property
    def agent_class(self) -> type[Any]:
        """Its class, which this imports."""
        found: type[Any] = getattr(importlib.import_module(self.place.partition(":")[0]), self.class_name)
        return found

    @property
    def networks(self) -> int:
        """How many networks learn or are learned towards: the policy, and of a replay buffer's learner its target."""
        return 2 if self.replay_buffer else 1


_HEEDS: dict[str, Algorithm] = {
    "ppo": Algorithm(place="heed.agents.ppo:PPO"),
    "a2c": Algorithm(place="heed.agents.a2c:A2C", minibatches=False, log_interval=4, probing=_SHORT_ROLLOUT),
    "reinforce": Algorithm(place="heed.agents.reinforce:REINFORCE", minibatches=False, probing=_SHORT_ROLLOUT),
    "grpo": Algorithm(
        place="heed.agents.grpo:GRPO", value_function=False, groups=True, probing={**_SHORT, "group_size": 8}
    ),
    "dqn": Algorithm(
        place="heed.agents.dqn:DQN",
        policy_gradient=False,
        replay_buffer=True,
        steps=48_000,
        # Its greedy policy still jumps between updates when it first does well; the falling learning rate calms it.
        stop_at_success=2.0,
        # On GoToLocal, where a success gives up to 1, 0.02 to 0.04 do equally well.
        exploration_temperature=0.02,
        log_interval=10,
        probing=_SHORT_REPLAY,
    ),
    "q-learning": Algorithm(
        place="heed.agents.tabular.q_learning:QLearning",
        language_model=False,
        policy_gradient=False,
        minibatches=False,
        steps=100_000,
        n_envs=1,
        stop_at_success=2.0,
        log_interval=100,
        probing={},
    ),
}


class Algorithms(MutableMapping[str, Algorithm]):
    """Algorithms by name: those that are put in, and those of installed packages, found when somebody looks for more.

    Args:
        own: those that are there without any package.
    """

    def __init__(self, own: Mapping[str, Algorithm]):
        self._found = dict(own)
        self._looked_at: tuple[str, ...] | None = None

    def _look(self) -> dict[str, Algorithm]:
        """Add what packages have under other names; one that cannot be used is left out, with a warning."""
        if self._looked_at != tuple(sys.path):  # a process that was forked may have more packages than its parent
            self._looked_at = tuple(sys.path)
            for entry in entry_points(group=ENTRY_POINT_GROUP):
                try:
                    algorithm = entry.load()
                    if not isinstance(algorithm, Algorithm):
                        raise TypeError(f"{entry.value} must be a heed.agents.Algorithm, but is {algorithm!r}")
                except Exception as error:  # somebody else's code
                    told = f"The algorithm {entry.name!r} of an installed package cannot be used: {entry.value} raises"
                    warnings.warn(f"{told} {type(error).__name__}: {error}", stacklevel=3)
                else:
                    self._found.setdefault(entry.name, algorithm)
        return self._found

    def __getitem__(self, name: str) -> Algorithm:
        return self._found[name] if name in self._found else self._look()[name]

    def __setitem__(self, name: str, algorithm: Algorithm) -> None:
        self._found[name] = algorithm

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._look())

    def __len__(self) -> int:
        return len(self._look())


ALGORITHMS = Algorithms(_HEEDS)
"""The algorithms by the names that the command line knows. Whoever adds one of their own puts it in here, or declares
it as an entry point of `ENTRY_POINT_GROUP`: name = the algorithm's name, value = an `Algorithm`."""


class AgentsWith(Collection[str]):
    """The names of the algorithms that have something, of those that are registered when it is asked.

    Args:
        has: says of an algorithm whether it does.
        name: of all of them together; by default their names.
    """

    def __init__(self, has: Callable[[Algorithm], bool], name: str = ""):
        self._has = has
        self._name = name

    def __str__(self) -> str:
        return self._name or " and ".join(self)

    def __contains__(self, agent: object) -> bool:
        return isinstance(agent, str) and agent in ALGORITHMS and self._has(ALGORITHMS[agent])

    def __iter__(self) -> Iterator[str]:
        return (name for name, algorithm in ALGORITHMS.items() if self._has(algorithm))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class AgentClasses(Mapping[str, Any]):
    """The classes of the registered algorithms by name; each is imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return ALGORITHMS[name].agent_class

    def __iter__(self) -> Iterator[str]:
        return iter(ALGORITHMS)

    def __len__(self) -> int:
        return len(ALGORITHMS)


AGENTS = AgentClasses()
"""Heed's agents by the name that the command line knows."""
