"""What chooses the actions of an evaluation: an agent's policy, sampled or greedy; a random policy; the expert.

An episode is the same however many are played in parallel. The last bits of a language model's output depend on the
batch, and one time in a million such a bit would change a decision; such a decision is computed again, from that prompt
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from heed.agents.agent import LanguageAgent
from heed.envs.contract import ChangingActions
from heed.envs.demonstrations.demonstrate import Choose, Words
from heed.policies.prompts.prompt import PromptSpace

UNSURE = 1e-4
"""A decision by numbers that are nearer to each other than this is computed again; rounding moves them far less."""

SAMPLED, GREEDY, RANDOM, EXPERT = "sampled", "greedy", "random", "expert"
"""Names of the policies that every evaluation knows."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Chooses the actions of an evaluation: a name and a function. Not SB3's `agent.policy`, which has parameters."""

    name: str
    choose: Choose
    """Chooses actions for a batch of language observations, each with the generator of its episode."""
    own: bool = True
    """Whether it is Heed's: what it raises is an error. What another's raises costs only its episodes."""
    refused: Callable[[Words], Mapping[int, Exception]] = lambda words: {}
    """Says which of a batch of observations it cannot read, and why: a fault of the environment, not of the policy."""
    asks_expert: bool = False
    """Let the environment's expert act where the agent is shown the true instruction, and `choose` elsewhere."""


def policies_of(agent: LanguageAgent) -> tuple[Policy, ...]:
    """Return the two policies of an agent: sampled and greedy."""
    refused = unreadable(agent)
    return (
        Policy(name=SAMPLED, choose=sampled(agent), refused=refused),
        Policy(name=GREEDY, choose=greedy(agent), refused=refused),
    )


def unreadable(agent: LanguageAgent) -> Callable[[Words], Mapping[int, Exception]]:
    """Return what says which observations no prompt of an agent can be made of, and why."""
    space = agent.observation_space
    return space.encoder.refused if isinstance(space, PromptSpace) else lambda words: {}


def random_policy(action_space: spaces.Space[object]) -> Policy:
    """Return the floor that every success rate is compared with: it reads nothing."""
    return Policy(name=RANDOM, choose=uniform(action_space))


def expert_policy(action_space: spaces.Space[object]) -> Policy:
    """Return the ceiling: the environment's expert, who needs to be told the true instruction and is lost without."""
    return Policy(name=EXPERT, choose=uniform(action_space), asks_expert=True)


def sampled(agent: LanguageAgent) -> Choose:
    """Let the agent's own distribution choose (for DQN: as it explored at the end of its training)."""

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
        if not isinstance(agent.action_space, spaces.Discrete):
            return agent.predict(words, deterministic=False)[0]
        draws = np.array([generator.random() for generator in generators])
        probabilities = agent.action_probabilities(words)
        actions, margins = draw_actions(probabilities, draws)
        for row in np.flatnonzero(margins < UNSURE):
            alone = _read_alone(agent, words, row, agent.action_probabilities)
            actions[row] = draw_actions(alone, draws[row : row + 1])[0][0]
        return actions

    return choose


def draw_actions(
    probabilities: npt.NDArray[np.floating], draws: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Turn uniform draws into actions.

    Args:
        probabilities: of the actions, (B, A), up to rounding.
        draws: (B,), each at least 0 and less than 1.

    Returns:
        The actions, (B,), and how far each draw is from the next action's interval, (B,).
    """
    cumulative = probabilities.astype(np.float64).cumsum(axis=1)
    cumulative /= cumulative[:, -1:]
    actions: npt.NDArray[np.int64] = (draws[:, None] >= cumulative[:, :-1]).sum(axis=1)
    margins = np.abs(draws[:, None] - cumulative[:, :-1]).min(axis=1, initial=1.0)
    return actions, margins


def greedy(agent: LanguageAgent) -> Choose:
    """Let the agent take its most probable or most valued action."""

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
        if not isinstance(agent.action_space, spaces.Discrete):
            return agent.predict(words, deterministic=True)[0]
        preferences = agent.action_preferences(words)
        actions: npt.NDArray[np.int64] = preferences.argmax(axis=1)
        if preferences.shape[1] > 1:
            best = np.partition(preferences, -2, axis=1)[:, -2:]
            scale = np.maximum(1.0, np.abs(best[:, 1]))
            for row in np.flatnonzero(best[:, 1] - best[:, 0] < UNSURE * scale):
                actions[row] = _read_alone(agent, words, row, agent.action_preferences).argmax()
        return actions

    return choose


def _read_alone(
    agent: LanguageAgent, words: Words, row: np.integer, read: Callable[[Words], npt.NDArray[np.floating]]
) -> npt.NDArray[np.floating]:
    """Return what `read` returns for one observation, (1, A), without cached outputs of larger batches."""
    agent.clear_cache()
    return read({key: [texts[row]] for key, texts in words.items()})


def uniform(action_space: spaces.Space[object]) -> Choose:
    """Choose at random, without reading."""

    def choose(words: Words, generators: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
        if isinstance(action_space, ChangingActions):
            pairs = zip(generators, words["actions"], strict=True)
            return np.array([generator.integers(len(listed)) for generator, listed in pairs])
        if isinstance(action_space, spaces.Discrete):
            return np.array([generator.integers(int(action_space.n)) for generator in generators])
        actions = []
        for generator in generators:
            action_space.seed(int(generator.integers(2**31)))
            actions.append(action_space.sample())
        return np.stack(actions)  # type: ignore[arg-type]

    return choose
