"""BabyAI's expert: the rule-based bot of Chevalier-Boisvert et al. (arXiv 1810.08272, section 3.4), asked what to do.

The bot keeps a plan and a map of what it has seen, and mends the plan when the agent does something else than it
advised; for that it must look at every state. It knows most levels. What it does not know raises `ExpertError`:
after a box was opened, which may have held what is looked for; where an assertion of its own fails, as on the
PutNext...Carrying levels and KeyInBox; and where it searches without end, as on some episodes of UnlockToUnlock.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

from heed.envs.contract import ExpertError

MAX_SEARCHES = 200
"""Searches for a path that one piece of advice may take. In play on all levels, 9 were the most that came to an end."""


class BotExpert(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives a BabyAI level the method `expert_action`. Until that is called, nothing is computed.

    From the first call to the end of the episode the bot looks at every state. Where the first call comes later than
    the episode's beginning, the bot plans from there, as if nothing had been done of the instruction.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._bot: _BoundedBot | None = None
        self._last_action: int | None = None
        self._advice: int | ExpertError | None = None
        """Of the present state, where the bot has looked at it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, for which a new bot is made if it is asked."""
        self._bot = self._last_action = self._advice = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, after the bot has looked at the state before."""
        if self._bot is not None:
            if self._advice is None:
                self._advice = self._ask(self._bot)
            self._last_action = int(action)
            # A plan that failed once stays failed: the bot does not say in which state it left it.
            self._advice = self._advice if isinstance(self._advice, ExpertError) else None
        return self.env.step(action)

    def expert_action(self) -> int:
        """Return the action that the bot would take now.

        Raises:
            ExpertError: if the bot does not know; then it knows nothing more of this episode.
        """
        if self._bot is None:
            self._bot = _BoundedBot(self.env.unwrapped)
        if self._advice is None:
            self._advice = self._ask(self._bot)
        if isinstance(self._advice, ExpertError):
            raise self._advice
        return self._advice

    def _ask(self, bot: _BoundedBot) -> int | ExpertError:
        """Let the bot look at the present state; it says what to do, or why it cannot."""
        try:
            advice = int(bot.replan(self._last_action))
        except ExpertError as error:
            return error
        except DisappearedBoxError:
            return ExpertError("A box was opened: BabyAI's bot does not know whether it held what is looked for.")
        except AssertionError as error:
            reason = str(error) or "without a word"
            return ExpertError(f"BabyAI's bot does not know this level (its assertion failed: {reason}).")
        space = self.env.action_space
        if isinstance(space, spaces.Discrete) and advice >= space.n:
            return ExpertError(f"BabyAI's bot advises action {advice}, but the level has only {space.n}.")
        return advice


class _BoundedBot(BabyAIBot):
    """The bot, stopped where it would go on searching for the same way for ever."""

    def __init__(self, level: Any):
        super().__init__(level)  # type: ignore[no-untyped-call]
        self._searches = 0

    def replan(self, action_taken: Any = None) -> Any:
        self._searches = 0
        return super().replan(action_taken)  # type: ignore[no-untyped-call]

    def _breadth_first_search(self, *arguments: Any, **options: Any) -> Any:
        self._searches += 1
        if self._searches > MAX_SEARCHES:
            raise ExpertError(f"BabyAI's bot has searched {MAX_SEARCHES} times for a way, and would go on searching.")
        return super()._breadth_first_search(*arguments, **options)  # type: ignore[no-untyped-call]
