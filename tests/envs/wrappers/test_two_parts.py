"""Instructions of two parts in levels of one: BabyAI's own verifiers say what was done, and in which order."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from heed.envs import Augmented, ContractError, SubInstructionRewards, TwoParts
from heed.envs.babyai.grammar import Sequence, parse
from heed.envs.contract import ExpertError, expert_of, fulfilled_instructions_of, method_of
from heed.envs.make import make_env
from tests.buttons import Buttons
from tests.evaluation.test_axes_other_instructions import follow, plan

GO, PICK, PUT = "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-PutNextLocal-v0"


def test_the_share_is_kept_and_all_orders_come() -> None:
    env, own = TwoParts(make_env(GO), share=0.5), make_env(GO)
    orders = Counter[str]()
    for seed in range(400):
        words, plain = env.reset(seed=seed)[0], own.reset(seed=seed)[0]
        assert words["observation"] == plain["observation"]
        instruction = parse(words["instruction"])
        if not isinstance(instruction, Sequence):
            assert words["instruction"] == plain["instruction"]
            continue
        first = str(instruction.first) == plain["instruction"]
        assert first or str(instruction.second) == plain["instruction"]
        orders[f"{instruction.order} {first}"] += 1
        assert env.step(0)[0]["instruction"] == words["instruction"]
    assert 0.35 < orders.total() / 400 < 0.5  # of some worlds all pairs are kept for evaluations
    assert len(orders) == 6
    assert min(orders.values()) > 15


@pytest.mark.parametrize("level", [GO, PICK, PUT])
def test_babyais_bot_does_both_parts(level: str) -> None:
    env = TwoParts(make_env(level), share=1.0)
    ended = Counter[bool]()
    for seed in range(12):
        words, _ = env.reset(seed=seed)
        if not isinstance(parse(words["instruction"]), Sequence):
            continue
        expert, over = expert_of(env), False
        assert expert is not None
        try:
            while not over:
                _, reward, terminated, truncated, info = env.step(expert())
                over = terminated or truncated
        except ExpertError:
            continue
        assert not truncated
        assert bool(info["is_success"]) == (float(reward) > 0)
        ended[bool(info["is_success"])] += 1
    # The bot does not look where it comes by: by chance it may do the second part first.
    assert ended[True] >= 8
    assert ended[True] > 6 * ended[False]


def parts_in_order(words: str) -> tuple[str, str]:
    instruction = parse(words)
    assert isinstance(instruction, Sequence)
    first, second = str(instruction.first), str(instruction.second)
    return (second, first) if instruction.order == "after" else (first, second)


def test_the_order_counts_where_there_is_one() -> None:
    env = TwoParts(make_env(GO), share=1.0)
    ends = Counter[tuple[str, bool]]()
    for seed in range(40):
        words, _ = env.reset(seed=seed)
        instruction = parse(words["instruction"])
        if not isinstance(instruction, Sequence):
            continue
        order = instruction.order
        _, second = parts_in_order(words["instruction"])
        # The second alone, as the level itself would have it done.
        actions = plan(GO, seed, [second])
        env.reset(seed=seed)
        for action in actions:
            _, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break
        if order == "and":
            # Both may have been done on the way.
            assert not terminated or info["is_success"]
            ends["and", terminated] += 1
        else:
            assert terminated
            ends["ordered", bool(info["is_success"])] += 1
            assert (float(reward) > 0) == bool(info["is_success"])
    assert ends["ordered", False] >= 10
    assert ends["ordered", True] <= 3  # the first was met on the way
    assert ends["and", False] >= 5


def test_both_in_the_right_order_is_success() -> None:
    env = TwoParts(make_env(PICK), share=1.0)
    done = 0
    for seed in range(12):
        words, _ = env.reset(seed=seed)
        if not isinstance(parse(words["instruction"]), Sequence):
            continue
        actions = plan(PICK, seed, list(parts_in_order(words["instruction"])))
        env.reset(seed=seed)
        number, info = follow(env, actions)
        assert info["is_success"]
        assert number == len(actions)
        done += 1
    assert done >= 5


def test_the_time_is_that_of_both_unless_it_is_fixed() -> None:
    env: Any = TwoParts(make_env(GO), share=1.0)
    assert {env.reset(seed=seed) and env.unwrapped.max_steps for seed in range(20)} == {64, 128}
    limited: Any = TwoParts(make_env(GO, max_steps=20), share=1.0)
    limited.reset(seed=0)
    for _ in range(19):
        assert not limited.step(0)[3]
    assert limited.step(0)[3]


def test_parts_are_told_of_and_rewarded_and_hindsight_knows_the_rest() -> None:
    env = Augmented(SubInstructionRewards(TwoParts(make_env(GO), share=1.0), reward=0.25), ("synonyms",))
    paid = 0
    for seed in range(20):
        words, info = env.reset(seed=seed)
        own = info["instruction"]
        if not isinstance(parse(own), Sequence):
            continue
        ask, told = fulfilled_instructions_of(env), set[str]()
        expert, over = expert_of(env), False
        assert expert is not None
        ask()
        while not over:
            _, _, terminated, truncated, info = env.step(expert())
            told |= set(ask())
            over = terminated or truncated
            if "fulfilled_parts" in info:
                assert info["sub_instruction_reward"] == 0.25
                assert all(part in own for part in info["fulfilled_parts"])
                paid += 1
        assert words["instruction"] not in told
        assert method_of(env, "fulfilled_parts") is not None
    assert paid >= 5


def test_a_level_with_parts_of_its_own_keeps_them() -> None:
    level = "BabyAI-GoToSeqS5R2-v0"
    env, own = TwoParts(make_env(level), share=1.0), make_env(level)
    kept = 0
    for seed in range(40):
        words, plain = env.reset(seed=seed)[0]["instruction"], own.reset(seed=seed)[0]["instruction"]
        if isinstance(parse(plain), Sequence):
            assert words == plain
            kept += 1
    assert kept > 20


def test_a_mixture_asks_the_level_that_is_played() -> None:
    env = TwoParts(make_env(f"{GO}+{PICK}"), share=1.0)
    for seed in range(20):
        words, info = env.reset(seed=seed)
        verbs = {"pick up" if info["level"] == PICK else "go to"}
        assert set(re.findall("go to|pick up", words["instruction"])) == verbs


def test_an_environment_that_cannot_is_refused() -> None:
    with pytest.raises(ContractError, match=r"cannot make an instruction of two parts: .*give_two_parts"):
        TwoParts(Buttons())
    with pytest.raises(ValueError, match="share is -1"):
        TwoParts(make_env(GO), share=-1)
