"""Verbalizers: words for environments that do not speak.

A `Verbalizer` turns a plain environment's observation, task and actions into words; `VerbalizedEnv` puts one
around an environment, which then keeps the language contract. The registry finds the verbalizer for an
environment's id; what no pattern matches gets `AutomaticVerbalizer`, which puts any space into words.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import gymnasium
from gymnasium import spaces
from gymnasium.spaces import Space  # `spaces` is a method in verbalizers

from heed.envs.contract import (
    ChangingActions,
    ContractError,
    ExpertError,
    LanguageObservation,
    expert_of,
    language_space,
    number_of,
)
from heed.envs.words.auxiliary import AuxiliaryObservations
from heed.envs.words.changing_wrappers import action_changer, observation_changer
from heed.envs.words.describe import DIGITS, Describer
from heed.envs.words.names import action_names, observation_names
from heed.envs.words.plain_actions import learned_actions

ENTRY_POINT_GROUP = "heed.verbalizers"
"""Packages add verbalizers of their own in this entry point group: name = id pattern, value = the class."""

OWN_VERBALIZERS = tuple(
    EntryPoint(name=pattern, value=value, group=ENTRY_POINT_GROUP)
    for pattern, value in (
        ("BabyAI-*", "heed.envs.babyai.words:MiniGridVerbalizer"),
        ("MiniGrid-*", "heed.envs.babyai.words:MiniGridVerbalizer"),
        ("FrozenLake*", "heed.envs.classic.toy_text:FrozenLakeVerbalizer"),
        ("Taxi-*", "heed.envs.classic.toy_text:TaxiVerbalizer"),
        ("CliffWalking*", "heed.envs.classic.toy_text:CliffWalkingVerbalizer"),
        ("Blackjack-*", "heed.envs.classic.toy_text:BlackjackVerbalizer"),
        ("CartPole-*", "heed.envs.classic.classic_control:CartPoleVerbalizer"),
        ("MountainCar*", "heed.envs.classic.classic_control:MountainCarVerbalizer"),
        ("Acrobot-*", "heed.envs.classic.classic_control:AcrobotVerbalizer"),
        ("Pendulum-*", "heed.envs.classic.classic_control:PendulumVerbalizer"),
        ("LunarLander*", "heed.envs.classic.box2d:LunarLanderVerbalizer"),
        ("MiniWorld-*", "heed.envs.worlds.miniworld.world:MiniWorldVerbalizer"),
        ("Fetch[PRS]*", "heed.envs.worlds.robotics.world:FetchVerbalizer"),
        ("PointMaze_*", "heed.envs.worlds.robotics.world:PointMazeVerbalizer"),
        ("ALE/*", "heed.envs.worlds.atari.world:AtariVerbalizer"),
    )
)
"""Heed's own, in the form of entry points: loaded when needed, and after everybody else's."""


class Verbalizer(ABC):
    """Words for one environment instance. Abstract methods are all there is to write.

    One instance serves one environment, so it may keep what it needs of the running episode; it may also wrap
    the environment that it was given (`super().__init__(MyWrapper(env))`).

    It is found by the id, so its words are of what that id shows and does. Around an environment with a wrapper that
    changes observations, or actions that have texts, it is not used (`verbalizer_for`), unless it says otherwise.
    """

    reads_through: ClassVar[tuple[str, ...]] = ()
    """Names of wrapper classes that change what is observed or done, with which the words are true all the same."""

    @classmethod
    def reads(cls, space: Space[Any]) -> bool:
        """Say whether these are words for observations of a space; for all that come under its id unless overridden."""
        return True

    def __init__(self, env: gymnasium.Env[Any, Any]):
        self.env = env

    def on_reset(self) -> None:  # noqa: B027 - a hook, empty on purpose
        """Forget the last episode; called after each reset, before anything is put into words."""

    @abstractmethod
    def instruction(self, observation: Any) -> str:
        """Return what the agent is told to do in this episode."""

    @abstractmethod
    def observation(self, observation: Any) -> str:
        """Return what the agent perceives now."""

    @abstractmethod
    def action_texts(self) -> tuple[str, ...] | None:
        """Return one text for each action of a Discrete action space; None for any other space."""

    def spaces(self) -> dict[str, Space[Any]]:
        """Return the spaces of the auxiliary observations, by key; none unless overridden.

        A policy reads `numbers`, a Box of float32 and one dimension, and `image`, a Box of uint8, (height, width, 3).
        """
        return {}

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return a value for each key of `spaces()`."""
        return {}

    def admissible_actions(self, observation: Any) -> Sequence[int] | None:
        """Return which actions can be done now, as places in `action_texts()`; None stands for all of them.

        Where a class overrides this, its language environments have `ChangingActions`: each observation lists the
        texts of these actions, and whoever chooses the i-th of the list does the i-th of these.
        """
        return None

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say, on an episode's last step, whether the agent did what it was told.

        Unless the environment says so itself (`info["is_success"]`), that is an end by its own rules with a
        positive reward.
        """
        if "is_success" in info:
            return bool(info["is_success"])
        return bool(terminated and reward > 0)


class VerbalizedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A plain environment that a `Verbalizer` lets speak the language contract.

    Raises:
        ContractError: if the verbalizer gives an auxiliary observation under a key of the text; or if it
            says which actions are admissible, but has no texts for them.
    """

    def __init__(self, verbalizer: Verbalizer):
        super().__init__(verbalizer.env)
        self.verbalizer = verbalizer
        self.action_texts = verbalizer.action_texts()
        self._texts = self.action_texts or ()
        auxiliary = verbalizer.spaces()
        self._has_more = bool(auxiliary)
        self._listed: list[int] | None = None
        """The actions that the last observation lists, where actions change."""
        plain = self.env.action_space
        self._first_action = int(plain.start) if isinstance(plain, spaces.Discrete) else 0
        """What the plain environment calls its first action; the contract calls it 0."""
        learned, self._to_plain = learned_actions(plain)
        if learned is not plain:
            self.action_space = learned
        changing = type(verbalizer).admissible_actions is not Verbalizer.admissible_actions
        if changing:
            self._list_actions()
        expert = expert_of(self.env)
        if expert is not None and (changing or self._first_action):
            self.expert_action = lambda: self._place_of(expert())  # the expert knows the plain environment's actions
        if taken := sorted(auxiliary.keys() & {"instruction", "observation", "actions"}):
            raise ContractError(f"{type(verbalizer).__name__}.spaces() has the key {taken[0]!r}, which the words have.")
        self.observation_space = language_space(changing_actions=changing, **auxiliary)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Start an episode and put its first observation into words."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.verbalizer.on_reset()
        return self._words(observation), info

    def step(self, action: Any) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Act, and put what follows into words; `info["is_success"]` is set on the last step.

        Raises:
            ValueError: if the last observation lists fewer actions.
        """
        if self._listed is not None:
            if not 0 <= action < len(self._listed):
                raise ValueError(f"There is no action {action}: the last observation lists {len(self._listed)}.")
            action = self._listed[action]
        if self._to_plain is not None:
            action = self._to_plain(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = number_of(reward)
        # An episode that ends by its own rules on the last allowed step has ended: a time limit that says so
        # as well would make learners bootstrap past the end.
        terminated, truncated = bool(terminated), bool(truncated and not terminated)
        if terminated or truncated:
            # In a dict of ours: an environment may keep its own, and would show this success in the next episode.
            info = {**info, "is_success": self.verbalizer.is_success(reward, terminated, info)}
        return self._words(observation, terminated), reward, terminated, truncated, info

    def _words(self, observation: Any, terminated: bool = False) -> LanguageObservation:
        words: dict[str, Any] = {
            "instruction": self.verbalizer.instruction(observation),
            "observation": self.verbalizer.observation(observation),
        }
        if self._has_more:
            words.update(self.verbalizer.auxiliary(observation))
        if self._listed is not None:
            self._listed = self._admissible(observation, terminated)
            words["actions"] = tuple([self._texts[action] for action in self._listed])
        return words  # type: ignore[return-value] # a TypedDict knows no further keys

    def _list_actions(self) -> None:
        """Have observations list the actions that can be done."""
        if not self._texts:
            raise ContractError(
                f"{type(self.verbalizer).__name__} says which actions are admissible, so it must name them: return "
                "a text for each from `action_texts()`."
            )
        self.action_texts = None
        self.action_space = ChangingActions(len(self._texts))
        self._listed = list(range(len(self._texts)))

    def _place_of(self, plain_action: Any) -> int:
        """Return which of the actions that can be chosen now an action of the plain environment is.

        Raises:
            ExpertError: if it cannot be chosen now.
        """
        place = int(plain_action) - self._first_action
        if self._listed is None:
            return place
        if place not in self._listed:
            raise ExpertError(f"The expert would {self._texts[place]!r}, which the verbalizer says cannot be done now.")
        return self._listed.index(place)

    def _admissible(self, observation: Any, terminated: bool) -> list[int]:
        admissible = self.verbalizer.admissible_actions(observation)
        if admissible is None or (terminated and len(admissible) == 0):  # nothing can be done after the end
            return list(range(len(self._texts)))
        listed = [int(action) for action in admissible]
        if not listed or len(set(listed)) < len(listed) or not 0 <= min(listed) <= max(listed) < len(self._texts):
            raise ContractError(
                f"{type(self.verbalizer).__name__}.admissible_actions returned {listed}; it must return at least one "
                f"of the actions 0 to {len(self._texts) - 1}, each once."
            )
        return listed


INSTRUCTION_KEYS = ("instruction", "mission")
"""A Text under one of these keys of a Dict is what the agent is told to do."""


class AutomaticVerbalizer(Verbalizer):
    """Words for any Gymnasium environment: field by field, with the names that the environment itself has for them.

    `heed.envs.words.describe` says how values become words, `heed.envs.words.names` where names come from, and
    `heed.envs.words.auxiliary` the auxiliary observations that text would lose.

    Where the environment's specification names a reward threshold (as CartPole's does), success is a return
    that reaches it, since rewards there tell nothing about the end: CartPole rewards the step that drops the
    pole as well.

    Args:
        env: speaks no language.
        instruction: what the agent is told to do, unless the environment's observations say so, as a Text under the key
            `instruction` or `mission` of a Dict. A plain environment has one task, which only its reward tells.
        changes: does each number say what it has changed since the last step, and all else what it was?
        digits: significant digits of numbers that are not whole.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        instruction: str = "collect as much reward as you can",
        changes: bool = False,
        digits: int = DIGITS,
    ):
        self._episode = EpisodeReturn(env)
        super().__init__(self._episode)
        self._threshold = env.spec.reward_threshold if env.spec is not None else None
        self._instruction = instruction
        space = env.observation_space
        self._told_in: str | None = None
        if isinstance(space, spaces.Dict) and len(space.spaces) > 1:
            told = [key for key in INSTRUCTION_KEYS if key in space.spaces and _holds_text(space.spaces[key])]
            if told:
                self._told_in = told[0]
                space = spaces.Dict({key: part for key, part in space.spaces.items() if key != told[0]})
        names = observation_names(env)
        self._describe = Describer(space, names=names, digits=digits)
        self._auxiliary = AuxiliaryObservations(space)
        self._changes = changes
        self._before: Any = None

    def on_reset(self) -> None:
        """Forget the last episode's values."""
        self._before = None

    def instruction(self, observation: Any) -> str:
        """Return the instruction that the observation holds, or the fixed one."""
        return self._instruction if self._told_in is None else str(observation[self._told_in])

    def observation(self, observation: Any) -> str:
        """Return the observation's values, with the names of the fields where the environment has them."""
        if not self._changes:
            return self._describe(observation)
        before, self._before = self._before, copy.deepcopy(observation)  # environments may go on with the same array
        return self._describe(observation, before)

    def spaces(self) -> dict[str, Space[Any]]:
        """Return `numbers` and `image` where words lose something of the observation."""
        return self._auxiliary.spaces

    def auxiliary(self, observation: Any) -> dict[str, Any]:
        """Return what words lose."""
        return self._auxiliary(observation)

    def action_texts(self) -> tuple[str, ...] | None:
        """Return the environment's own names of its actions where it has them, else "action 0", "action 1", ..."""
        space = self.env.action_space
        if not isinstance(space, spaces.Discrete):
            return None
        first = int(space.start)
        return action_names(self.env) or tuple(f"action {index}" for index in range(first, first + int(space.n)))

    def is_success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Say whether the return reached the environment's threshold; without one, as any `Verbalizer`."""
        if self._threshold is None or "is_success" in info:
            return super().is_success(reward, terminated, info)
        return self._episode.value >= self._threshold


def _holds_text(space: Space[Any]) -> bool:
    """Say whether a space holds strings: Gymnasium's `Text`, or another library's, such as MiniGrid's missions."""
    return isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind == "U")


class EpisodeReturn(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds up the rewards of the running episode in `value`, and counts its steps in `steps`."""

    value = 0.0
    steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode at zero."""
        self.value, self.steps = 0.0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, and add the reward."""
        result = self.env.step(action)
        self.value += number_of(result[1])
        self.steps += 1
        return result


VerbalizerFactory = Callable[[gymnasium.Env[Any, Any]], Verbalizer]

_registry: dict[str, VerbalizerFactory] = {}


def register_verbalizer(pattern: str, factory: VerbalizerFactory) -> None:
    """Use `factory` for every environment whose id matches `pattern` (as in a shell: `MyWorld-*`).

    The pattern that was registered last wins, so a user's own goes before Heed's.
    """
    _registry.pop(pattern, None)
    _registry[pattern] = factory


def registered_verbalizers() -> dict[str, VerbalizerFactory]:
    """Return what was registered in this process, by pattern, the last one last."""
    return dict(_registry)


def verbalizer_for(env: gymnasium.Env[Any, Any], env_id: str) -> Verbalizer:
    """Return the verbalizer for `env`.

    Those registered in this process come first, then those of installed packages, then Heed's own, and then
    the automatic one, which also has the words of what a wrapper has made of an environment: a verbalizer that does not
    read the space, or that knows nothing of a wrapper which changes observations or actions, is passed over.
    """
    found = _found_for(env_id)
    if found is None:
        return AutomaticVerbalizer(env)
    factory, everywhere = found
    reads = getattr(factory, "reads", None)
    through = getattr(factory, "reads_through", ())
    changed = observation_changer(env, everywhere=everywhere, but=through) or action_changer(
        env, everywhere=everywhere, but=through
    )
    if changed is not None or (reads is not None and not reads(env.observation_space)):
        return AutomaticVerbalizer(env)
    return factory(env)


def _found_for(env_id: str) -> tuple[VerbalizerFactory, bool] | None:
    """Return what is registered for an id, and whether it is Heed's own: those know Gymnasium's own classes, bare."""
    for pattern, factory in reversed(_registry.items()):
        if fnmatchcase(env_id, pattern):
            return factory, False
    for own, entries in ((False, entry_points(group=ENTRY_POINT_GROUP)), (True, OWN_VERBALIZERS)):
        for entry_point in entries:
            if fnmatchcase(env_id, entry_point.name):
                return entry_point.load(), own
    return None
