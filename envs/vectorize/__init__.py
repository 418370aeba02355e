"""Vectorised language environments: SB3 `VecEnv`s that carry words.

SB3's `DummyVecEnv` allocates its observations by shape and type, which a text has not. `LanguageVecEnv` hands
on `{"instruction": array of str, "observation": array of str, ...}`; `heed.policies.PromptVecEnv` turns these
into token ids, once per batch. `ProcessLanguageVecEnv` does the same with its environments spread over processes.

Every episode has a seed of its own, drawn from (seed, environment's index, number of the episode). So an
episode is the same however the environments are spread, and the state of a vectorised environment is small:
those numbers and the actions since. `get_state` and `set_state` use this to resume a training exactly.

With a `group_size` G, each G environments side by side share a row of seeds, in which each seed stands G times;
whichever of them ends its episode takes the next. So G episodes have the same level and instruction, begin close to
each other, and no environment waits for another. `info["episode_group"]` tells, on an episode's last step, which ones
belong together.

An environment that raises, hangs, returns what it must not, or changes what it promised loses its episode: it is made
anew, the next episode begins, and the learner is told (`info["episode_lost"]`), as the page on robustness says.
"""

from heed.envs.seeds import episode_seed
from heed.envs.vectorize.in_process import LanguageVecEnv
from heed.envs.vectorize.stacking import Observations, stack_observations
from heed.envs.vectorize.workers.processes import ProcessLanguageVecEnv
from heed.envs.vectorize.workers.transport import Connection, Transport
from heed.envs.watchdog import TIMEOUT

__all__ = [
    "TIMEOUT",
    "Connection",
    "LanguageVecEnv",
    "Observations",
    "ProcessLanguageVecEnv",
    "Transport",
    "episode_seed",
    "stack_observations",
]
