"""An expert for environments that tell how they work: the best that can be done, by planning.

Gymnasium's toy-text environments carry their transition table, `P[state][action] = [(probability, next state, reward,
terminated), ...]`. With as many steps left as the time limit leaves, backward induction over it gives the action of the
highest expected return (Puterman 1994, Markov Decision Processes, section 4.5). So an evaluation can hold an agent
against the optimum, also where that is far from certain success, as on a slippery lake.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

NO_LIMIT = 1_000
"""Steps that are planned ahead where an environment has no time limit."""
HASTE = 1e-7
"""So much less a reward is worth with each step that it is later: of ways equally good, the shortest."""


class PlannedExpert(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives an environment with a transition table the method `expert_action`.

    Until that is called, nothing is computed.

    Args:
        env: whose `unwrapped` has `P`, as above, and the present state `s`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        limit = env.spec.max_episode_steps if env.spec is not None else None
        self._limit = limit
        self._steps = 0
        self._plan: npt.NDArray[np.int64] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, and count."""
        self._steps += 1
        return self.env.step(action)

    def expert_action(self) -> int:
        """Return the action of the highest expected return; of several, the first."""
        world: Any = self.env.unwrapped
        if self._plan is None:
            self._plan = backward_induction(world.P, self._limit or NO_LIMIT)
        left = len(self._plan) if self._limit is None else max(1, self._limit - self._steps)
        return int(self._plan[left - 1, int(world.s)])


def backward_induction(table: dict[int, dict[int, list[tuple[Any, ...]]]], steps: int) -> npt.NDArray[np.int64]:
    """Return the best action for each number of steps left and each state; of equally good ones, what ends soonest.

    Args:
        table: `table[state][action]` lists (probability, next state, reward, terminated).
        steps: the most that are left.

    Returns:
        Actions, (steps, number of states): row t with t + 1 steps left.
    """
    n_states, n_actions = len(table), len(table[0])
    rewards = np.zeros((n_states, n_actions))
    outcomes: list[tuple[int, int, int, float]] = []
    for state, actions in table.items():
        for action, transitions in actions.items():
            for probability, following, reward, terminated in transitions:
                rewards[state, action] += probability * reward
                if not terminated:
                    outcomes.append((state, action, int(following), float(probability)))
    states, actions_, followings, probabilities = (np.array(column) for column in zip(*outcomes, strict=True))
    values = np.zeros(n_states)
    plan = np.empty((steps, n_states), dtype=np.int64)
    for left in range(steps):
        returns = rewards.copy()
        np.add.at(returns, (states, actions_), (1 - HASTE) * probabilities * values[followings])
        # What differs by rounding alone is equal, or the plan would hang on the order of a sum.
        plan[left] = np.argmax(np.round(returns, 12), axis=1)
        values = returns.max(axis=1)
    return plan
