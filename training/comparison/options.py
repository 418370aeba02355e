"""The command line that begins a run, from the configuration that its folder holds."""

from __future__ import annotations

import shlex
from typing import Any

from heed.evaluation.command_line import option_words
from heed.training.options import CHANGES_ON_RESUME, TrainConfig

NOT_OF_THE_TRAINING = {"seed", *CHANGES_ON_RESUME} - {"steps", "stop_at_success"}
"""Options in which the runs of one group may differ: the seed, and where and how a training runs, not what it learns.

What may change when a run goes on is that, but for when it ends.
"""

SAME_UP_TO_ROUNDING = {"micro_batch_tokens", "activation_checkpointing", "compiled"}
"""Options that change what a training needs, and what it learns by rounding alone: they make no other group either."""


def complete(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with the options that were not there yet when it was trained."""
    return {**TrainConfig().as_json(), **config}


def given_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run that have another value than they would have if they were left out."""
    given = TrainConfig.from_json(config).given_options()
    return {name: value for name, value in given.items() if name not in NOT_OF_THE_TRAINING}


def command_of(config: dict[str, Any], *, seeds: list[int]) -> str:
    """Return the command line that begins such a run, as a loop of the shell where there are several seeds."""
    # The environment is always named: nobody knows by heart which one is the default.
    words = ["heed", "train", "--env", shlex.quote(config["env"])]
    for name, value in given_options(config).items():
        if name == "env":
            continue
        words += [shlex.quote(word) for word in option_words(name, value)]
    if len(seeds) == 1:
        return " ".join([*words, "--seed", str(seeds[0])])
    return f"for seed in {' '.join(map(str, seeds))}; do {' '.join(words)} --seed $seed; done"
