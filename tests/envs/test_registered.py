# mypy: disable-error-code="arg-type"
"""Worker processes make the environments of the main process, in its words, or are refused."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from heed.envs import AutomaticVerbalizer, make, register_verbalizer
from heed.envs.classic.toy_text import TaxiVerbalizer
from heed.envs.make import make_env
from heed.envs.vectorize.workers.likeness import Likeness, WorkerDiffersError, likenesses_here, require_as_here
from heed.envs.vectorize.workers.registered import Registered
from heed.envs.words.masks import MaskedActions
from heed.envs.words.verbalize import _registry

SCRIPT = """
import functools, gymnasium
from gymnasium import spaces
from heed.envs import AutomaticVerbalizer, register_verbalizer
from heed.envs.make import make_env
from heed.envs.vectorize import ProcessLanguageVecEnv

class Mine(AutomaticVerbalizer):
    def instruction(self, observation):
        return "keep it up"
    def action_texts(self):
        return ("shove left", "shove right")

class Here(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)
    def __init__(self, start=0):
        self.start = start
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.start, {}
    def step(self, action):
        return 0, 0.0, True, False, {}

if __name__ == "__main__":
    register_verbalizer("Here-*", Mine)
    gymnasium.register("Here-v0", entry_point=Here, kwargs={"start": 1})
    env = ProcessLanguageVecEnv([functools.partial(make_env, "Here-v0")], processes=1, seed=0)
    print(env.reset()["instruction"][0], env.reset()["observation"][0], *env.action_space.texts, sep=" | ")
    env.close()
"""


def test_what_a_script_registers_is_handed_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "keep it up | 1 | shove left | shove right\n"


class Wordy(AutomaticVerbalizer):
    def action_texts(self) -> tuple[str, ...]:
        return ("this", "that")


def test_what_can_be_named_is_sent_and_registered() -> None:
    gymnasium.register("Sent-v0", entry_point=f"{__name__}:Wordy", kwargs={"a": 1})
    gymnasium.register("Kept-v0", entry_point=lambda: None)
    register_verbalizer("One-*", Wordy)
    register_verbalizer("Two-*", lambda env: Wordy(env))
    try:
        sent = Registered.here()
        assert sent.verbalizers == (("One-*", f"{__name__}:Wordy"),)
        ids = {spec.id for spec in sent.environments}
        assert "Sent-v0" in ids
        assert "Kept-v0" not in ids
        assert "CartPole-v1" not in ids
        _registry.clear()
        del gymnasium.registry["Sent-v0"]
        sent.register()
        assert _registry == {"One-*": Wordy}
        assert gymnasium.registry["Sent-v0"].kwargs == {"a": 1}
    finally:
        _registry.clear()
        for env_id in ("Sent-v0", "Kept-v0"):
            gymnasium.registry.pop(env_id, None)


def test_differences_are_told() -> None:
    one = Likeness.of(make_env("CartPole-v1"))
    register_verbalizer("CartPole-*", Wordy)
    try:
        other = Likeness.of(make_env("CartPole-v1"))
    finally:
        _registry.clear()
    require_as_here([one], [one])
    with pytest.raises(
        WorkerDiffersError, match=r"the verbalizer is heed\S*CartPoleVerbalizer, but in a worker process it is \S*Wordy"
    ):
        require_as_here([one], [other])
    with pytest.raises(WorkerDiffersError, match=r"the environment is .*CartPoleEnv, but in a worker process it is"):
        require_as_here([one], [Likeness.of(make_env("MountainCar-v0"))])


def test_verbalizers_within_others_count() -> None:
    register_verbalizer("Taxi-*", lambda env: MaskedActions(TaxiVerbalizer(env)))
    try:
        told = Likeness.of(make_env("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"))
    finally:
        _registry.clear()
    assert told.verbalizer == "heed.envs.words.masks.MaskedActions around heed.envs.classic.toy_text.TaxiVerbalizer"


def typed_in() -> gymnasium.Env[Any, Any]:
    return make_env("CartPole-v1")


def test_what_a_notebook_defines_is_refused_before_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    here = functools.partial(make_env, "CartPole-v1")
    assert len(likenesses_here([here] * 3)) == 3
    monkeypatch.setattr(typed_in, "__module__", "__main__")
    notebook.typed_in = typed_in  # type: ignore[attr-defined]
    with pytest.raises(WorkerDiffersError, match="defined in a notebook or typed in"):
        likenesses_here([typed_in])
    with pytest.raises(WorkerDiffersError, match="cannot import what makes the environment"):
        make("CartPole-v1", n_envs=2, processes=2, wrappers=[lambda env: env])
