"""What words cost: microseconds that a verbalizer takes of a step, and what a step takes without it.

Random actions play an environment, a new episode's seed each time one ends, with words and without. All times are of
the processor, by the thread that plays: what else the machine does leaves them nearly as they are. Each repeat plays
episodes of its own, so that views which a verbalizer remembers are as often new to it as in a training's beginning.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gymnasium
from rich.table import Table

from heed.envs.contract import ChangingActions
from heed.envs.make import make_plain_env, speaking
from heed.envs.words.verbalize import VerbalizedEnv
from heed.training.errors import ConfigurationError
from tools.benchmark.timing import Timing

if TYPE_CHECKING:
    from tools.benchmark.command import BenchmarkConfig

MICRO = 1e6
LONGEST = 200
"""Steps after which an episode is left for the next."""


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure each environment.

    Returns:
        By id, in microseconds a step: `plain`, an environment's step as Gymnasium makes it; `speaking`, the same with
        words; `words`, the verbalizer alone, in a call for each step; each with its quartiles.

    Raises:
        ConfigurationError: if an environment speaks itself, or its actions change.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints while it draws levels
        return {env_id: measure_env(env_id, config) for env_id in config.verbalizing_envs}


def measure_env(env_id: str, config: BenchmarkConfig) -> dict[str, Any]:
    """Measure one environment."""
    plain, verbalized = make_plain_env(env_id), speaking(make_plain_env(env_id))
    if not isinstance(verbalized, VerbalizedEnv) or isinstance(verbalized.action_space, ChangingActions):
        raise ConfigurationError(
            f"--verbalizing-envs: {env_id} speaks itself, or its actions change from step to step, so that its steps "
            "with words and without cannot be compared. Leave it out of the list."
        )
    words = WordTimer(verbalized)
    seconds: dict[str, list[float]] = {"plain": [], "speaking": [], "words": []}
    for repeat in range(config.repeats + 1):
        first_seed = config.seed + 1_000_000 * repeat
        plain_seconds = play(plain, config.verbalizing_steps, first_seed)
        words.start(timed=False)
        speaking_seconds = play(verbalized, config.verbalizing_steps, first_seed)
        # Looking at the clock twice a step would be in the speaking environment's time: it plays once more.
        words.start(timed=True)
        play(verbalized, config.verbalizing_steps, first_seed + config.verbalizing_steps)
        if repeat:  # the first one is not counted
            seconds["plain"].append(plain_seconds)
            seconds["speaking"].append(speaking_seconds)
            seconds["words"].append(words.seconds / words.calls)
    plain.close()
    verbalized.close()
    per_step = {name: [MICRO * second for second in taken] for name, taken in seconds.items()}
    return {name: Timing.of(taken).as_json() for name, taken in per_step.items()}


class WordTimer:
    """Adds up the time that a verbalized environment's words take, call by call.

    Args:
        env: its words are timed from now on.
    """

    def __init__(self, env: VerbalizedEnv):
        self._original = env._words
        self._env: Any = env
        self.seconds, self.calls = 0.0, 0

    def start(self, *, timed: bool) -> None:
        """Forget what was added up; look at the clock from now on, or do not."""
        self.seconds, self.calls = 0.0, 0
        self._env._words = self._timed if timed else self._original

    def _timed(self, *arguments: Any) -> Any:
        began = time.thread_time()
        words = self._original(*arguments)
        self.seconds += time.thread_time() - began
        self.calls += 1
        return words


def play(env: gymnasium.Env[Any, Any], steps: int, first_seed: int) -> float:
    """Return the seconds that a step takes, without resets, over so many steps with random actions."""
    env.action_space.seed(first_seed)
    seconds, episode, played = 0.0, 0, 0
    while played < steps:
        env.reset(seed=first_seed + episode)
        episode += 1
        actions = [env.action_space.sample() for _ in range(min(LONGEST, steps - played))]
        began = time.thread_time()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            played += 1
            if terminated or truncated:
                break
        seconds += time.thread_time() - began
    return seconds / steps


def report(result: dict[str, Any]) -> Iterator[Table]:
    """Yield what to print."""
    table = Table(title="words: microseconds of the processor a step", title_justify="left")
    for column in ("", "words alone", "quartiles", "step with words", "without"):
        table.add_column(column, justify="right", no_wrap=True)
    for env_id, figures in result.items():
        words = figures["words"]
        medians = (f"{figures[name]['median']:.1f}" for name in ("speaking", "plain"))
        table.add_row(env_id, f"{words['median']:.1f}", f"{words['low']:.1f} to {words['high']:.1f}", *medians)
    yield table
