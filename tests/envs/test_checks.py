"""Each check finds the fault that it is there for, says how to mend it, and never raises."""

import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.checks import Check, Reader, check_env
from heed.envs.checks.playing import play
from heed.envs.contract import ChangingActions, ExpertError, FreeText, UnknownEnvironmentError, language_space
from heed.envs.verbalize import AutomaticVerbalizer, VerbalizedEnv

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


class Walk(gymnasium.Env[Any, Any]):
    """Keeps the contract: walk to the instructed end of a corridor. The tests break one rule of it at a time."""

    def __init__(self) -> None:
        self.observation_space: Any = language_space()
        self.action_space: Any = spaces.Discrete(2)
        self.action_texts: Any = ("left", "right")
        self.place = 0
        self.closed = False
        self.clock = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.target = 3 if self.np_random.integers(2) else -3
        self.place = int(self.np_random.integers(-1, 2))
        return self.perceive(), {}

    def step(self, action: Any) -> Any:
        self.place += 1 if action else -1
        ended = abs(self.place) >= 3
        return self.perceive(), float(self.place == self.target), ended, False, self.tell()

    def perceive(self) -> Any:
        return {"instruction": f"go to {self.target}", "observation": f"you are at {self.place}"}

    def tell(self) -> dict[str, Any]:
        return {"is_success": self.place == self.target}

    def close(self) -> None:
        self.closed = True


def faults(env: str | Callable[[], gymnasium.Env[Any, Any]], **options: Any) -> list[Check]:
    checks = check_env(env, **options)
    assert all(check.detail and bool(check.mend) != check.passed for check in checks)
    return [check for check in checks if not check.passed]


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


def changed(**attributes: Any) -> type[Walk]:
    """`Walk` with other methods, or with other attributes set after its own."""
    methods = {name: value for name, value in attributes.items() if callable(value)}
    values = {name: value for name, value in attributes.items() if not callable(value)}

    def init(self: Walk) -> None:
        Walk.__init__(self)
        for name, value in values.items():
            setattr(self, name, value)

    return type("Broken", (Walk,), {"__init__": init, **methods})


def step_with(**parts: Any) -> Any:
    """A `step` that returns something else in place of one of its five values."""

    def step(self: Walk, action: Any) -> Any:
        names = ("observation", "reward", "terminated", "truncated", "info")
        result = dict(zip(names, Walk.step(self, action), strict=True))
        return tuple({**result, **parts}.values())

    return step


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
    ("broken", "name", "detail", "mend"),
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
def test_fault_is_found(broken: Any, name: str, detail: str, mend: str) -> None:
    # Gymnasium may complain of the same.
    (fault,) = [check for check in faults(broken, max_steps=200) if check.name != "Gymnasium's own check"]
    assert fault.name == name
    assert detail in fault.detail
    assert mend in fault.mend


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


class Doors(gymnasium.Env[Any, Any]):
    """Actions that change: a corridor of rooms, each with other doors; one of them is the one to take."""

    def __init__(self) -> None:
        self.observation_space: Any = language_space(changing_actions=True)
        self.action_space: Any = ChangingActions(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.color = ("red", "blue", "green")[self.np_random.integers(3)]
        self.rooms = 3
        return self.perceive(), {}

    def doors(self) -> tuple[str, ...]:
        return ("red door", "blue door", "green door")[: self.rooms] if self.rooms > 1 else (f"{self.color} door",)

    def perceive(self) -> Any:
        return {"instruction": f"take {self.color}", "observation": f"{self.rooms} rooms left", "actions": self.doors()}

    def step(self, action: Any) -> Any:
        self.check(action)
        taken = self.doors()[min(int(action), len(self.doors()) - 1)]
        self.rooms -= 1
        ended = self.rooms == 0
        success = ended and taken.startswith(self.color)
        return self.perceive() if self.rooms else self.last(), float(success), ended, False, {"is_success": success}

    def last(self) -> Any:
        return {"instruction": f"take {self.color}", "observation": "outside", "actions": ("wait",)}

    def check(self, action: Any) -> None:
        if action >= len(self.doors()):
            raise ValueError("no such door")


def test_changing_actions_pass() -> None:
    checks = {check.name: check for check in check_env(Doors, reader=reader())}
    assert [check for check in checks.values() if not check.passed] == []
    assert checks["actions"].detail == "ChangingActions(3): each observation lists its own"
    assert checks["actions change"].detail.endswith("of 1 to 3 actions")
    assert checks["actions change"].outcome == "pass"
    assert checks["action texts differ as tokens"].detail.startswith("4 texts of")


@pytest.mark.parametrize(
    ("attributes", "name", "detail"),
    [
        ({"doors": lambda self: ("red door", "red door")}, "reset and step", "share the text 'red door'"),
        ({"doors": lambda self: ["red door"]}, "reset and step", "must be a tuple of strings"),
        ({"doors": lambda self: ()}, "reset and step", "lists 0 actions"),
        ({"doors": lambda self: tuple("abcd")}, "reset and step", "lists 4 actions"),
        ({"action_space": spaces.Discrete(3)}, "actions", "where observations do list `actions`"),
        ({"observation_space": language_space()}, "actions", "where observations do not list `actions`"),
        (
            {"doors": lambda self: ("red door", "blue door"), "check": lambda self, action: None},
            "actions change",
            r"step\(2\) was taken, but the observation listed only 2 actions, 0 to 1",
        ),
    ],
)
def test_fault_of_changing_actions_is_found(attributes: Any, name: str, detail: str) -> None:
    class Broken(Doors):
        def __init__(self) -> None:
            super().__init__()
            for key in ("action_space", "observation_space"):
                setattr(self, key, attributes.get(key, getattr(self, key)))

    for key, value in attributes.items():
        if callable(value):
            setattr(Broken, key, value)
    (fault,) = [check for check in faults(Broken) if check.name != "Gymnasium's own check"]
    assert fault.name == name
    assert re.search(detail, fault.detail)


def test_same_list_for_the_same_seed() -> None:
    class Unsteady(Doors):
        resets = 0

        def reset(self, **options: Any) -> Any:
            type(self).resets += 1
            return super().reset(**options)

        def doors(self) -> tuple[str, ...]:
            return tuple(f"door {number} of reset {self.resets}" for number in range(3))

    (fault,) = [check for check in faults(Unsteady) if check.name != "Gymnasium's own check"]
    assert fault.name == "same seed, same episode"
    assert "door 0 of reset" in fault.detail


def reader(**changes: Any) -> Reader:
    """One token for each letter, without case, and no digits."""
    letters = " abcdefghijklmnopqrstuvwxyz-,':"

    def tokens(text: str) -> list[int]:
        return [letters.index(letter) for letter in text.lower() if letter in letters]

    parts: dict[str, Any] = {
        "name": "letters",
        "action_tokens": tokens,
        "text": lambda ids: "".join(letters[index] for index in ids),
        "prompt_tokens": lambda instruction, observation: tokens(f"{instruction} {observation}"),
        "max_prompt_tokens": 99,
    }
    return Reader(**{**parts, **changes})


def checked(env: Any, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in check_env(env, **options)}


def test_action_texts_that_are_the_same_tokens_are_found() -> None:
    check = checked(changed(action_texts=("go Left", "go left")), reader=reader())["action texts differ as tokens"]
    assert not check.passed
    assert check.detail == "'go Left' and 'go left' are the same tokens to letters"
    check = checked(changed(action_texts=("go 1", "go 22 ")), reader=reader())["action texts differ as tokens"]
    assert check.passed
    assert check.note == "letters does not see '1', as in 'go 1'."


def test_long_prompts_are_found() -> None:
    fitting = checked(Walk, reader=reader())["prompts fit"]
    assert fitting.detail == "up to 20 tokens of letters, where 99 are read"  # "go to - you are at -"
    assert fitting.note.startswith("letters does not see '")
    cut = checked(Walk, reader=reader(max_prompt_tokens=12))["prompts fit"]
    assert cut.passed
    assert cut.note.startswith("The end of long observations is cut off: train with --max-prompt-tokens 20")
    long = checked(Walk, reader=reader(max_prompt_tokens=5))["prompts fit"]
    assert not long.passed
    assert long.detail.endswith("an instruction alone needs 8")


def test_constant_instructions_and_beginnings_are_noted() -> None:
    notes = {name: check.note for name, check in checked("FrozenLake-v1").items() if check.note}
    assert notes["instructions vary"].startswith("The instruction is always the same")
    assert notes["other seeds, other episodes"].startswith("All episodes began alike")


def test_reward_that_is_never_reached_is_noted() -> None:
    never = changed(step=step_with(reward=0.0), tell=lambda self: {"is_success": False})
    check = checked(never, reward_episodes=7)["reward can be reached"]
    assert check.outcome == "note"
    assert check.detail.startswith("random actions succeed in 0 of 7 episodes; rewards 0 to 0")
    assert check.note.startswith("Every reward was the same")


def test_given_policy_shows_that_the_reward_can_be_reached() -> None:
    towards = checked(Walk, policy=lambda words: int(not words["instruction"].endswith("-3")), reward_episodes=6)
    assert towards["reward can be reached"].detail.startswith("the given policy succeeds in 6 of 6 episodes")
    away = checked(Walk, policy=lambda words: int(words["instruction"].endswith("-3")), reward_episodes=6)
    assert away["reward can be reached"].detail.startswith("the given policy succeeds in 0 of 6 episodes")
    assert away["reward can be reached"].outcome == "note"


def test_words_that_stand_still_are_noted() -> None:
    class Deaf(AutomaticVerbalizer):
        def observation(self, observation: Any) -> str:
            return "pole left" if observation[2] < 0 else "pole right"

    check = checked(lambda: VerbalizedEnv(Deaf(gymnasium.make("CartPole-v1"))))["words follow the actions"]
    assert check.outcome == "note"
    assert re.match(r"In \d+ of \d+ steps that changed", check.note)
    assert checked("CartPole-v1")["words follow the actions"].outcome == "pass"


def test_time_limit_given_as_an_end_is_noted() -> None:
    class Clock(Walk):
        def reset(self, **options: Any) -> Any:
            self.steps = 0
            return super().reset(**options)

        def step(self, action: Any) -> Any:
            observation = super().step(action)[0]
            self.steps += 1
            return observation, 0.0, self.steps == 7, False, {"is_success": False}

    assert "terminated after exactly 7 steps" in checked(Clock)["one kind of end"].note
    assert checked(Walk)["one kind of end"].note == ""


def with_methods(**methods: Any) -> type[Walk]:
    return type("Offering", (Walk,), methods)


def towards(self: Walk) -> int:
    return int(self.target > 0)


def test_expert_is_followed() -> None:
    assert checked(with_methods(expert_action=towards))["expert"].detail == "succeeds in 5 of 5 episodes"

    def give_up(self: Walk) -> int:
        raise ExpertError("too far")

    given_up = checked(with_methods(expert_action=give_up))["expert"]
    assert given_up.detail == "succeeds in 0 of 5 episodes, gives up in 5 ('too far')"
    assert given_up.outcome == "note"


@pytest.mark.parametrize(
    ("methods", "name", "detail"),
    [
        ({"expert_action": lambda self: 2}, "expert", "said 2, which is no action there"),
        ({"expert_action": lambda self: "left"}, "expert", "said 'left', which is no action there"),
        ({"expert_action": lambda self: int(self.np_random.integers(2))}, "expert", "in the same state"),
        ({"expert_action": lambda self: 1 // 0}, "expert", "raised ZeroDivisionError"),
        ({"fulfilled_instructions": lambda self: ["go"]}, "fulfilled instructions", "it returned ['go']"),
        ({"fulfilled_instructions": lambda self: {"go": np.nan}}, "fulfilled instructions", "{'go': nan}"),
        ({"fulfilled_instructions": lambda self: 1 // 0}, "fulfilled instructions", "it raised ZeroDivisionError"),
        ({"impossible_instructions": lambda self: ["go"]}, "impossible instructions", "it returned ['go']"),
        ({"impossible_instructions": lambda self: ("go", "go")}, "impossible instructions", "names one twice"),
        ({"impossible_instructions": lambda self: (str(id(object)) + str(self.np_random.random()),)}, "", ""),
        ({"impossible_instructions": lambda self: (f"go to {self.target}",)}, "impossible instructions", "own"),
        (
            {"possible_instructions": lambda self: ("sit",)},
            "possible instructions are told when done",
            "no `fulfilled_instructions`",
        ),
    ],
)
def test_fault_of_what_is_offered_is_found(methods: Any, name: str, detail: str) -> None:
    found = faults(with_methods(**methods))
    if not name:  # drawn from the episode's own seed: the same for the same seed
        assert found == []
        return
    (fault,) = found
    assert fault.name == name
    assert detail in fault.detail


def test_random_actions_do_not_know_what_the_environment_has_drawn() -> None:
    """With the environment's seed alone, the first action drawn would be the number that it has just drawn."""

    class Guess(Walk):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super(Walk, self).reset(seed=seed)
            self.place, self.target = 0, int(self.np_random.integers(2))
            return self.perceive(), {}

        def step(self, action: Any) -> Any:
            return self.perceive(), float(action == self.target), True, False, {"is_success": action == self.target}

    played = [play(Guess(), seed, 1).success for seed in range(200)]
    assert 70 < sum(played) < 130
