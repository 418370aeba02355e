"""What the checks say of how agents read an environment, of its rewards, and of what it offers beside the contract."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from heed.envs.checks.playing import play
from heed.envs.contract import ExpertError, language_space
from heed.envs.words.verbalize import AutomaticVerbalizer, VerbalizedEnv
from tests.envs.walk import Walk, changed, checked, faults, reader, step_with


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


def test_what_no_policy_reads_is_noted() -> None:
    assert checked(Walk, reader=reader())["all of an observation is read"].note == ""
    smelling = changed(
        observation_space=language_space(smell=spaces.Discrete(3)),
        perceive=lambda self: {**Walk.perceive(self), "smell": 1},
    )
    note = checked(smelling, reader=reader())["all of an observation is read"].note
    assert note.startswith("A policy does not see what is under smell")


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
