"""Checks of what an environment declares before it is played: its interface, its spaces, its action texts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from heed.envs.checks.check import Check, failed, passed, short, told
from heed.envs.contract import (
    ACTION_SPACES,
    ChangingActions,
    ContractError,
    action_texts_of,
    require_action_space,
    require_action_texts,
    speaks_language,
)


class _FirstAction(ChangingActions):
    """Draws the action that every list has: Gymnasium's check draws without a look at the observation."""

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        return np.int64(0)


def check_gymnasium(make_plain: Callable[[], gymnasium.Env[Any, Any]]) -> Check:
    """Let Gymnasium check a second instance without what is around it."""
    name = "Gymnasium's own check"
    try:
        plain = make_plain().unwrapped
        with contextlib.closing(plain):
            if isinstance(plain.action_space, ChangingActions):
                plain.action_space = _FirstAction(int(plain.action_space.n))
            gymnasium_check_env(plain, skip_render_check=True, skip_close_check=True)
    except Exception as error:
        detail = str(error) if isinstance(error, AssertionError) else told(error)
        return failed(name, detail, "Follow Gymnasium's interface: https://gymnasium.farama.org/api/env/")
    return passed(name, "nothing to complain of")


def check_observation_space(env: gymnasium.Env[Any, Any]) -> Check:
    """Look for the words in the observation space."""
    name = "observation space"
    space = env.observation_space
    if not speaks_language(env):
        return failed(
            name,
            f"no Dict with the Text spaces `instruction` and `observation`, but {short(space)}",
            "Set `self.observation_space = heed.envs.language_space()`, or put a `heed.envs.Verbalizer` "
            "around the environment: `VerbalizedEnv(MyVerbalizer(env))`.",
        )
    assert isinstance(space, spaces.Dict)
    return passed(name, ", ".join(space.spaces))


def check_actions(env: gymnasium.Env[Any, Any]) -> Check:
    """Look whether agents can act, and whether actions that can be counted have names."""
    name = "actions"
    space = env.action_space
    try:
        require_action_space(space)
    except ContractError as error:
        fix = f"Use one of {', '.join(kind.__name__ for kind in ACTION_SPACES)}, of one dimension and counted from 0."
        return failed(name, str(error), fix)
    lists_actions = speaks_language(env) and "actions" in env.observation_space.spaces  # type: ignore[attr-defined]
    if lists_actions != isinstance(space, ChangingActions):
        return failed(
            name,
            f"the action space {short(space)}, where observations {'do' if lists_actions else 'do not'} list `actions`",
            "Let actions that change go with `self.action_space = ChangingActions(n)` and "
            "`self.observation_space = language_space(changing_actions=True)`, and others with neither.",
        )
    if isinstance(space, ChangingActions):
        return passed(name, f"{space}: each observation lists its own")
    if not isinstance(space, spaces.Discrete):
        return passed(name, f"{short(space)}: needs no action texts")
    try:
        require_action_texts(env, space)
        texts = action_texts_of(env)
    except Exception as error:
        fix = f"Give it an attribute `action_texts`: a tuple of {space.n} different texts, one an action."
        return failed(name, str(error), fix)
    return passed(name, ", ".join(texts or ()))
