"""Rewards for parts: which parts, when their turn is, and what they leave as it was."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from heed.envs import ChangingInstruction, SubInstructionRewards, split_instruction
from heed.envs.babyai.grammar import Action, Sequence, parse
from heed.envs.contract import ContractError, expert_of, fulfilled_instructions_of, language_space
from heed.envs.make import make_env
from heed.envs.wrappers.asked_once import AskedOnce
from tests.corridor import LEFT, RIGHT, Corridor
from tests.places import Places


@pytest.mark.parametrize(
    ("instruction", "stages"),
    [
        ("go to the ball", (("go to the ball",),)),
        ("go to the ball, then open a door", (("go to the ball",), ("open a door",))),
        ("go to the ball after you open a door", (("open a door",), ("go to the ball",))),
        ("open a door and go to a key", (("open a door", "go to a key"),)),
        ("a and b, then c and d", (("a", "b"), ("c", "d"))),
        ("a after you b and c", (("b", "c"), ("a",))),
    ],
)
def test_an_instruction_is_split_into_stages(instruction: str, stages: Any) -> None:
    assert split_instruction(instruction) == stages


def test_babyai_s_grammar_splits_alike() -> None:
    def leaves(part: Action | Sequence) -> list[str]:
        return [str(part)] if isinstance(part, Action) else [*leaves(part.first), *leaves(part.second)]

    env = make_env("BabyAI-BossLevel-v0")
    several = 0
    for seed in range(60):
        words = env.reset(seed=seed)[0]["instruction"]
        stages = split_instruction(words)
        assert sorted(part for stage in stages for part in stage) == sorted(leaves(parse(words)))
        several += len(stages) > 1
    assert several > 10


class Told(gymnasium.Env[Any, Any]):
    """Fulfils, in each step, the instructions that are written down for it."""

    action_texts = ("go on", "wait")

    def __init__(self, instruction: str, *told: tuple[str, ...]):
        self.observation_space = language_space()
        self.action_space = gymnasium.spaces.Discrete(2)
        self._instruction, self._told, self._steps = instruction, told, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return self._words(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        over = self._steps == len(self._told)
        return self._words(), float(over), over, False, {"is_success": True} if over else {}

    def fulfilled_instructions(self) -> dict[str, float]:
        return dict.fromkeys(self._told[self._steps - 1], 1.0) if self._steps else {}

    def _words(self) -> dict[str, str]:
        return {"instruction": self._instruction, "observation": f"step {self._steps}"}


def rewards(env: gymnasium.Env[Any, Any], steps: int) -> list[float]:
    env.reset(seed=0)
    return [float(env.step(0)[1]) for _ in range(steps)]


@pytest.mark.parametrize(
    ("instruction", "told", "expected"),
    [
        # The last part is the success, which the environment pays itself.
        ("a, then b", [("x",), ("a",), (), ("b",)], [0, 0.25, 0, 1]),
        # What is done before its turn brings nothing, and once its turn is there, it does.
        ("a, then b, then c", [("b",), ("a",), ("b",), ("c",)], [0, 0.25, 0.25, 1]),
        ("b after you a", [("b",), ("a",), ("b",)], [0, 0.25, 1]),
        # Each part once.
        ("a and b", [("a",), ("a",), ("b",)], [0.25, 0, 1]),
        ("a and a, then b", [("a",), ("a",), ("b",)], [0.25, 0.25, 1]),
        # Two at once, also of two stages.
        ("a and b, then c", [("b", "a"), ("c",)], [0.5, 1]),
        ("a, then b, then c", [("a", "b"), ("c",)], [0.5, 1]),
        ("a, then b", [(), ("a", "b")], [0, 1]),
    ],
)
def test_parts_are_paid_by_hand(instruction: str, told: Any, expected: list[float]) -> None:
    assert rewards(SubInstructionRewards(Told(instruction, *told), 0.25), len(told)) == expected
    assert rewards(SubInstructionRewards(Told(instruction, *told), 0), len(told)) == [0] * (len(told) - 1) + [1]


def test_the_step_says_what_was_done_and_what_it_brought() -> None:
    env = SubInstructionRewards(Told("a and b, then c", ("b", "a"), ("c",)), 0.25)
    env.reset(seed=0)
    assert env.step(0)[4] == {"fulfilled_parts": ("a", "b"), "sub_instruction_reward": 0.5}
    assert env.step(0)[4] == {"is_success": True}


def test_a_splitter_of_one_s_own() -> None:
    env = SubInstructionRewards(
        Told("a; b", ("a",), ("b",)), 0.5, split=lambda text: [[one] for one in text.split("; ")]
    )
    assert rewards(env, 2) == [0.5, 1]


def test_hindsight_hears_nothing_after_a_reward_that_it_would_not_have_had() -> None:
    env = SubInstructionRewards(Told("a, then b", ("x",), ("a", "y"), ("z",), ("b",)), 0.25)
    tell = fulfilled_instructions_of(env)
    env.reset(seed=0)
    assert tell() == {}
    told = []
    for _ in range(4):
        env.step(0)
        told.append(sorted(tell()))
    assert told == [["x"], ["a", "y"], [], []]
    env.reset(seed=0)
    env.step(0)
    assert sorted(tell()) == ["x"]


def test_an_environment_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ContractError, match="give it a method `fulfilled_instructions"):
        SubInstructionRewards(Corridor())


@pytest.mark.parametrize("level", ["BabyAI-GoToSeqS5R2-v0", "BabyAI-SynthSeq-v0"])
def test_babyai_s_verifier_decides_which_parts_are_done(level: str) -> None:
    plain, env = make_env(level), SubInstructionRewards(make_env(level), 0.125)
    expert = expert_of(env)
    assert expert is not None
    kinds: set[str] = set()
    for seed in (0, 1, 2, 3, 5, 8):
        words = env.reset(seed=seed)[0]
        assert words == plain.reset(seed=seed)[0]
        stages = split_instruction(words["instruction"])
        done: list[str] = []
        while True:
            action = expert()
            ours, theirs = env.step(action), plain.step(action)
            assert ours[0] == theirs[0]
            assert ours[2:4] == theirs[2:4]
            new = list(ours[4].get("fulfilled_parts", ()))
            assert float(ours[1]) == float(theirs[1]) + 0.125 * len(new)
            done += new
            if ours[2] or ours[3]:
                break
        assert ours[4]["is_success"]
        kinds.add(str(len(stages)))
        # In the order of the stages, and all but what the last step did.
        *early, last = stages
        assert sorted(done[: sum(map(len, early))]) == sorted(part for stage in early for part in stage)
        assert set(done[sum(map(len, early)) :]) <= set(last)
        assert len(done) >= sum(map(len, early))
    assert len(kinds) > 1 or level == "BabyAI-SynthSeq-v0"


def test_babyai_s_parts_wait_for_their_turn_and_count_when_they_are_done_again() -> None:
    """BabyAI tells an instruction once in an episode; its verifier, who is asked here, knows better."""
    env = make_env("BabyAI-GoToSeqS5R2-v0")
    parts, fulfilled = env.get_wrapper_attr("fulfilled_parts"), fulfilled_instructions_of(env)
    too_early = again = 0
    for seed in range(60):
        words = env.reset(seed=seed)[0]["instruction"]
        assert parts() == ()
        stages = split_instruction(words)
        fulfilled()
        generator, over, early = np.random.default_rng(seed), False, set[str]()
        while not over:
            _, _, terminated, truncated, _ = env.step(int(generator.choice(3, p=[0.2, 0.2, 0.6])))
            over = terminated or truncated
            done = parts()
            first_done = set(stages[0]) <= set(done)
            if not first_done:
                assert set(done) <= set(stages[0])
                early |= set(fulfilled()) & {part for stage in stages[1:] for part in stage} - set(stages[0])
            else:
                again += bool(early & set(done))
        too_early += bool(early)
    assert too_early > 3
    assert again > 0


def test_asking_changes_nothing_of_the_level() -> None:
    asked, silent = make_env("BabyAI-GoToSeqS5R2-v0"), make_env("BabyAI-GoToSeqS5R2-v0")
    parts = asked.get_wrapper_attr("fulfilled_parts")
    generator = np.random.default_rng(0)
    for seed in range(6):
        asked.reset(seed=seed)
        silent.reset(seed=seed)
        over = False
        while not over:
            parts()
            action = int(generator.choice(6))
            ours, theirs = asked.step(action), silent.step(action)
            assert ours[:4] == theirs[:4]
            over = bool(ours[2] or ours[3])


def test_several_may_ask_what_a_step_fulfilled() -> None:
    env = AskedOnce(make_env("BabyAI-GoToLocal-v0"))
    env.reset(seed=0)
    env.fulfilled_instructions()
    told = []
    for action in np.random.default_rng(0).choice(3, size=40, p=[0.2, 0.2, 0.6]):
        env.step(int(action))
        assert env.fulfilled_instructions() == env.fulfilled_instructions()
        told += list(env.fulfilled_instructions())
    assert told
    assert len(told) == len(set(told))


def test_around_a_change_only_the_given_instruction_has_parts() -> None:
    env = SubInstructionRewards(ChangingInstruction(make_env("BabyAI-GoToSeqS5R2-v0"), at=(8, 8)), 0.5)
    expert_s = make_env("BabyAI-GoToSeqS5R2-v0")
    expert = expert_of(expert_s)
    assert expert is not None
    early = 0
    for seed in range(25):
        info = env.reset(seed=seed)[1]
        expert_s.reset(seed=seed)
        if info["shown"] == info["instruction"]:
            continue  # nothing else could be done there
        for step in range(1, 9):
            action = expert()
            _, _, _, _, told = env.step(action)
            _, _, terminated, _, plain = expert_s.step(action)
            assert "fulfilled_parts" not in told, (seed, step)
            early += bool(expert_s.get_wrapper_attr("fulfilled_parts")())
            if terminated or plain.get("is_success") or told.get("is_success"):
                break
    assert early > 3  # the plain level's parts were done in that time


def test_places_are_no_parts() -> None:
    env, plain = SubInstructionRewards(Places(), 5.0), Places()
    for seed in range(4):
        env.reset(seed=seed)
        plain.reset(seed=seed)
        for action in (LEFT, RIGHT, RIGHT):
            ours, theirs = env.step(action), plain.step(action)
            assert ours == theirs
            if theirs[2]:
                break
