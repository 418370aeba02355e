"""Each check finds the fault that it is there for, says how to fix it, and never raises."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.checks import check_env
from heed.envs.contract import FreeText, UnknownEnvironmentError
from tests.envs.walk import Walk, changed, faults, step_with

ALL_CHECKS = [
    "can be made",
    "Gymnasium's own check",
    "observation space",
    "actions",
    "reset and step",
    "same seed, same episode",
    "words follow the actions",
    "other seeds, other episodes",
    "instructions vary",
    "episodes end",
    "one kind of end",
    "success is told",
    "reward can be reached",
]
MORE_CHECKS: dict[Any, list[str]] = {
    "BabyAI-GoToLocal-v0": ["expert", "fulfilled instructions", "possible instructions", "impossible instructions"],
    "FrozenLake-v1": ["expert"],
}
"""Of environments that have more than they must."""


@pytest.mark.parametrize("env", ["BabyAI-GoToLocal-v0", "CartPole-v1", "Pendulum-v1", "FrozenLake-v1", Walk])
def test_good_environments_pass(env: Any) -> None:
    checks = check_env(env)
    assert [check.name for check in checks if not check.passed] == []
    assert [check.name for check in checks] == ALL_CHECKS + MORE_CHECKS.get(env, [])


def test_environment_is_closed() -> None:
    made: list[Walk] = []

    def make() -> Walk:
        made.append(Walk())
        return made[-1]

    check_env(make)
    assert made
    assert all(env.closed for env in made)


def test_checking_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    class Talkative(Walk):
        def reset(self, **kwargs: Any) -> Any:
            print("Sampling rejected")
            return super().reset(**kwargs)

    assert faults(Talkative) == []
    assert capsys.readouterr().out == ""


def test_unknown_id_raises() -> None:
    with pytest.raises(UnknownEnvironmentError, match="Did you mean BabyAI-GoToLocal-v0"):
        check_env("BabyAI-GoToLoca-v0")


def test_one_episode_is_not_enough() -> None:
    with pytest.raises(ValueError, match="episodes must be at least 2"):
        check_env(Walk, episodes=1)


def test_details_tell_what_was_seen() -> None:
    details = {check.name: check.detail for check in check_env(Walk, episodes=4)}
    assert details["can be made"] == "Walk, as it is"
    assert details["actions"] == "left, right"
    assert details["observation space"] == "instruction, observation"
    assert details["instructions vary"] == "2 in 4 episodes: 'go to -3', 'go to 3'"
    assert details["one kind of end"] == "4 terminated, 0 truncated"
    assert details["success is told"] == "at the end of 4 episodes"
    assert "MiniGridVerbalizer" in check_env("BabyAI-GoToLocal-v0")[0].detail


def failing_init(self: Walk) -> None:
    raise OSError("no display")


def step_raising(self: Walk, action: Any) -> Any:
    if self.np_random.random() < 0.2:
        raise IndexError("list index out of range")
    return Walk.step(self, action)


def step_ending_twice(self: Walk, action: Any) -> Any:
    observation, reward, ended, _, info = Walk.step(self, action)
    return observation, reward, ended, ended, info


def reset_by_the_clock(self: Walk, *, seed: int | None = None, options: Any = None) -> Any:
    words, info = Walk.reset(self, seed=seed)
    self.clock += 1
    return {**words, "observation": f"reset number {self.clock}"}, info


def numbered(self: Walk) -> Any:
    return {"instruction": "go", "observation": 7}


def lacking(self: Walk) -> Any:
    return {"observation": "you are here"}


def empty(self: Walk) -> Any:
    return {"instruction": "go", "observation": " "}


def constant(self: Walk) -> Any:
    return {"instruction": "go", "observation": "you are here"}


ASCII = spaces.Dict(instruction=spaces.Text(99), observation=FreeText())


@pytest.mark.parametrize(
    ("broken", "name", "detail", "fix"),
    [
        (changed(__init__=failing_init), "can be made", "OSError: no display", "Correct this error"),
        (lambda: 7, "can be made", "no gymnasium.Env, but of the type int", "Correct this error"),
        (gymnasium.Env, "can be made", "observation_space", "Correct this error"),
        (
            lambda: gymnasium.make("Pendulum-v1"),
            "observation space",
            "but Box",
            "heed.envs.language_space()",
        ),
        (changed(action_space=spaces.Tuple([spaces.Discrete(2)])), "actions", "SB3 cannot act in", "Discrete, Box"),
        (changed(action_space=None), "actions", "SB3 cannot act in: None", "Discrete, Box"),
        (changed(action_texts=("left",)), "actions", "1 action texts for 2 actions", "tuple of 2 different texts"),
        (changed(action_texts=("go", "go")), "actions", "share the text 'go'", "tuple of 2 different texts"),
        (changed(action_texts=None), "actions", "names no `action_texts`", "tuple of 2 different texts"),
        (changed(reset=lambda self, **_: "words"), "reset and step", "reset returned 'words'", "observation, info"),
        (changed(step=lambda self, _: (1, 2, 3, 4)), "reset and step", "(1, 2, 3, 4)", "observation, reward"),
        (changed(step=step_with(reward="much")), "reset and step", "the reward 'much'", "finite number"),
        (changed(step=step_with(reward=np.nan)), "reset and step", "the reward nan", "finite number"),
        (changed(step=step_with(truncated=None)), "reset and step", "truncated=None", "True or False"),
        (changed(step=step_with(info=[])), "reset and step", "step returned", "info is a dict"),
        (changed(step=step_raising), "reset and step", "step raised IndexError: list index", "error in the"),
        (changed(perceive=numbered), "reset and step", "the observation 7", "Return a string"),
        (changed(perceive=lacking), "reset and step", "{'observation': 'you are here'}", "instruction, observation"),
        (changed(perceive=empty), "reset and step", "an empty observation", "Say something"),
        (changed(observation_space=ASCII), "reset and step", "the instruction 'go to", "heed.envs.FreeText()"),
        (changed(reset=reset_by_the_clock), "same seed, same episode", "at step 0", "super().reset(seed=seed)"),
        (changed(perceive=constant), "words follow the actions", "stayed 'you are here'", "perceives now"),
        (changed(step=step_with(terminated=False)), "episodes end", "more than 200 steps", "max_episode_steps"),
        (changed(step=step_ending_twice), "one kind of end", "both True", "truncated=True only where"),
        (changed(tell=lambda self: {}), "success is told", "no `is_success`", "on every step"),
        (changed(tell=lambda self: {"is_success": 1.0}), "success is told", "was 1.0", "on every step"),
    ],
)
def test_fault_is_found(broken: Any, name: str, detail: str, fix: str) -> None:
    # Gymnasium may complain of the same.
    (fault,) = [check for check in faults(broken, max_steps=200) if check.name != "Gymnasium's own check"]
    assert fault.name == name
    assert detail in fault.detail
    assert fix in fault.fix


def test_gymnasiums_complaint_is_handed_on() -> None:
    class Optionless(Walk):
        def reset(self, *, seed: int | None = None) -> Any:  # type: ignore[override]
            return super().reset(seed=seed)

    (fault,) = faults(Optionless)
    assert fault.name == "Gymnasium's own check"
    assert "does not provide an `options`" in fault.detail


def test_checks_after_a_fault_are_left_out() -> None:
    names = [check.name for check in check_env(changed(step=step_with(reward="much")))]
    assert names == ALL_CHECKS[:5]
    assert [check.name for check in check_env(changed(__init__=failing_init))] == ALL_CHECKS[:1]


def test_gymnasiums_own_time_limit_is_no_fault() -> None:
    """`TimeLimit` says truncated on the last allowed step, also where the episode ended there by itself."""

    class Short(Walk):
        def step(self, action: Any) -> Any:
            self.place = self.target if action else -self.target
            return self.perceive(), 0.0, True, False, self.tell()

    def make() -> gymnasium.Env[Any, Any]:
        env = Short()
        env.spec = gymnasium.envs.registration.EnvSpec("Short-v0", max_episode_steps=1)
        return gymnasium.wrappers.TimeLimit(env, max_episode_steps=1)

    env = make()
    env.reset()
    assert env.step(0)[2:4] == (True, True)
    assert faults(make) == []
