"""Staged probe environments: the smallest worlds, each of which an agent can only solve if one more part of it works.

After Andy Jones, "Debugging RL, Without the Agonizing Pain" (andyljones.com/posts/rl-debugging.html), for agents that
read. An episode has one or two steps, and what every action in every state is worth is known, so a check can hold an
agent's values against them as well as its actions (`heed.agents.probing`). They stand in order: each needs what those
before it need and one thing more, so the first that an agent fails says which part is broken.

What differs from his:
- a reward for an action comes before a delayed one, since the delayed one is earned by an action here;
- there are probes of what is a language agent's own: the instruction, actions that change, numbers and a picture
  auxiliary observations, a transcript of what was seen before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from heed.envs.contract import ChangingActions, language_space
from heed.envs.wrappers.history import History

INSTRUCTION = "get the coin"
IMAGE_SHAPE = (8, 8, 3)


@dataclass(frozen=True)
class State:
    """What the agent perceives, and what comes of each action."""

    observation: str
    outcomes: tuple[float | State, ...]
    """Of each action: the reward that ends the episode, or the state that follows without a reward."""
    instruction: str = INSTRUCTION
    more: Mapping[str, Any] | None = None
    """What the observation holds besides its text: `actions`, `numbers`, `image`."""

    def action_values(self, gamma: float) -> tuple[float, ...]:
        """Return what each action is worth where the best is done afterwards, Q*(s, a)."""
        return tuple(
            gamma * max(outcome.action_values(gamma)) if isinstance(outcome, State) else outcome
            for outcome in self.outcomes
        )


@dataclass(frozen=True)
class Case:
    """A state as an agent sees it, with what it is to know there."""

    observation: Mapping[str, Any]
    """As the environment gives it, with a history where there is one."""
    action_values: tuple[float, ...]
    """Q*(s, a) of each action that there is."""
    comes_of_best_actions: bool
    """Whether the best actions lead here. Who learns from what it does itself hardly sees the other states."""

    @property
    def value(self) -> float:
        """V*(s)."""
        return max(self.action_values)

    @property
    def best(self) -> int | None:
        """The best action; None where all are worth the same."""
        return None if len(set(self.action_values)) == 1 else int(np.argmax(self.action_values))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One stage."""

    name: str
    tests: str
    """What it takes beyond what the probes before it take, in a few words."""
    broken: str
    """A sentence on what is broken in an agent that fails it, and none before it."""
    starts: tuple[State, ...]
    """Where an episode may begin, each as likely as any other."""
    action_texts: tuple[str, ...] | None = None
    """None where they change from state to state, and stand in the states."""
    needs: str = ""
    """What not every agent has: `values`, or a key of auxiliary observations."""
    history: int = 0
    """Length of the `History` around it."""

    def make(self) -> gymnasium.Env[Any, Any]:
        """Return a new environment."""
        env: gymnasium.Env[Any, Any] = ProbeEnv(self)
        return History(env, length=self.history) if self.history else env

    def cases(self, gamma: float) -> list[Case]:
        """Return every state that can be reached, as agents see it."""
        env = self.make()
        found: list[Case] = []
        for number, start in enumerate(self.starts):
            for actions, state, of_best in _reachable(start):
                observation, _ = env.reset(options={"start": number})
                for action in actions:
                    observation, *_ = env.step(action)
                found.append(Case(observation, state.action_values(gamma), of_best))
        return found


def _reachable(
    state: State, actions: tuple[int, ...] = (), of_best: bool = True
) -> Iterator[tuple[tuple[int, ...], State, bool]]:
    """Yield `state` and all that can follow it, with the actions that lead there and whether these are the best."""
    yield actions, state, of_best
    worth = state.action_values(1.0)
    for action, outcome in enumerate(state.outcomes):
        if isinstance(outcome, State):
            yield from _reachable(outcome, (*actions, action), of_best and worth[action] == max(worth))


class ProbeEnv(gymnasium.Env[Any, Any]):
    """The environment of a probe. `reset(options={"start": i})` begins with start i instead of any.

    Args:
        probe: says all of it.
    """

    def __init__(self, probe: Probe):
        self._starts = probe.starts
        self._state = probe.starts[0]
        more = dict(probe.starts[0].more or {})
        if "actions" in more:
            self.action_space: spaces.Discrete = ChangingActions(max(len(start.outcomes) for start in probe.starts))
        else:
            assert probe.action_texts is not None
            self.action_texts = probe.action_texts
            self.action_space = spaces.Discrete(len(probe.action_texts))
        auxiliary: dict[str, spaces.Space[Any]] = {}
        if "numbers" in more:
            auxiliary["numbers"] = spaces.Box(-1, 1, more["numbers"].shape, np.float32)
        if "image" in more:
            auxiliary["image"] = spaces.Box(0, 255, more["image"].shape, np.uint8)
        self.observation_space = language_space(changing_actions="actions" in more, **auxiliary)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin with one of the starts."""
        super().reset(seed=seed)
        number = (options or {}).get("start")
        self._state = self._starts[int(self.np_random.integers(len(self._starts))) if number is None else number]
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act: the episode ends with a reward, or goes on without one."""
        outcome = self._state.outcomes[int(action)]
        if isinstance(outcome, State):
            self._state = outcome
            return self._observation(), 0.0, False, False, {}
        return self._observation(), float(outcome), True, False, {"is_success": outcome > 0}

    def _observation(self) -> dict[str, Any]:
        more = {key: np.copy(value) if key != "actions" else value for key, value in (self._state.more or {}).items()}
        return {"instruction": self._state.instruction, "observation": self._state.observation, **more}


def _actions(*texts: str) -> State:
    """Return a state with these actions, of which taking the coin is right."""
    return State("a coin", tuple(float(text == "take coin") for text in texts), more={"actions": texts})


def _picture(brightness: int) -> Any:
    return np.full(IMAGE_SHAPE, brightness, dtype=np.uint8)


_BUTTONS = ("press red", "press blue")
_RED, _BLUE = (1.0, 0.0), (0.0, 1.0)
"""The rewards of the two buttons where one of them is right."""

_ALL = (
    Probe(
        name="value",
        tests="a value: each episode gives 1",
        broken="The value function does not learn: its head, its loss or its optimizer, or rewards do not arrive.",
        starts=(State("a coin", (1.0, 1.0)),),
        action_texts=_BUTTONS,
        needs="values",
    ),
    Probe(
        name="observation",
        tests="a value that depends on the observation",
        broken="The observation does not come into the values: the prompt, its template or how it is read.",
        starts=(State("a gold coin", (1.0, 1.0)), State("a wolf", (-1.0, -1.0))),
        action_texts=_BUTTONS,
        needs="values",
    ),
    Probe(
        name="action",
        tests="a reward that depends on the action",
        broken="The policy does not follow the reward: the policy's loss, the advantages' sign, or which action they "
        "are of.",
        starts=(State("two buttons", _BLUE),),
        action_texts=_BUTTONS,
    ),
    Probe(
        name="choice",
        tests="an action that depends on the observation",
        broken="The observation does not come into the choice of actions: scores, or the head of the policy.",
        starts=(State("a red lamp", _RED), State("a blue lamp", _BLUE)),
        action_texts=_BUTTONS,
    ),
    Probe(
        name="delay",
        tests="a reward that comes a step later",
        broken="A later reward is not credited as it should be: the discount, the bootstrapped value, n-step returns "
        "or advantages over time, or where episodes end.",
        starts=(State("two doors", (State("an empty room", (0.0, 0.0)), State("a coin", (1.0, 1.0)))),),
        action_texts=_BUTTONS,
    ),
    Probe(
        name="instruction",
        tests="an action that depends on the instruction",
        broken="The instruction is not read: the prompt, its template, or what is cut from it.",
        starts=(
            State("two buttons", _RED, instruction="press red"),
            State("two buttons", _BLUE, instruction="press blue"),
        ),
        action_texts=_BUTTONS,
    ),
    Probe(
        name="actions",
        tests="actions that change from state to state",
        broken="Actions that change are mixed up: their texts are not read, or their numbers are not of their list.",
        starts=(
            *(_actions(*texts) for texts in permutations(("take coin", "wait"))),
            *(_actions(*texts) for texts in permutations(("take coin", "wait", "go away"))),
        ),
        needs="actions",
    ),
    Probe(
        name="numbers",
        tests="an action that depends on auxiliary numbers",
        broken="The auxiliary numbers of an observation do not come into the choice of actions.",
        starts=tuple(
            State("a dial", _RED if number < 0 else _BLUE, more={"numbers": np.array([number, 0.5], dtype=np.float32)})
            for number in (-1.0, -0.5, 0.5, 1.0)
        ),
        action_texts=_BUTTONS,
        needs="numbers",
    ),
    Probe(
        name="picture",
        tests="an action that depends on a picture",
        broken="The picture of an observation does not come into the choice of actions.",
        starts=tuple(
            State("a screen", _RED if brightness < 128 else _BLUE, more={"image": _picture(brightness)})
            for brightness in (10, 245)
        ),
        action_texts=_BUTTONS,
        needs="image",
    ),
    Probe(
        name="memory",
        tests="an action that depends on what was seen before",
        broken="What was seen before is not known any more: the history is missing, the prompt is cut, or only a part "
        "of it is read.",
        # Only one action leads on. If both did, a policy would see little of what follows the one that it rarely takes.
        starts=tuple(
            State(f"a {color} lamp", (State("two buttons", rewards), 0.0))
            for color, rewards in (("red", _RED), ("blue", _BLUE))
        ),
        action_texts=_BUTTONS,
        history=2,
    ),
)

PROBES: dict[str, Probe] = {probe.name: probe for probe in _ALL}
"""The probes by their names, from the simplest to the hardest."""
