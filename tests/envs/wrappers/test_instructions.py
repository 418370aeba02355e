"""Several tasks in one environment: who is drawn, how an episode ends, and what can stand in its place."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heed.envs import Instructions, StepLimit, SubInstructionRewards, Task
from heed.envs.contract import ContractError, ExpertError, expert_of
from heed.envs.make import make_env
from heed.envs.vectorize import LanguageVecEnv
from heed.envs.wrappers.shown import EitherInstruction
from heed.envs.wrappers.task import Moment
from tests.corridor import LEFT, RIGHT, Corridor, at


def drawn(env: Instructions, name: str) -> int:
    """Return a seed whose episode has the task."""
    return next(seed for seed in range(1000) if env.reset(seed=seed)[1]["task"] == name)


def begin(env: Instructions, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return env.reset(seed=drawn(env, name))


def test_tasks_are_drawn_by_their_weights_and_the_episode_s_seed() -> None:
    tasks = [at(0, "the left end", weight=3), at(1, "the second cell")]
    names = [Instructions(Corridor(), tasks).reset(seed=seed)[1]["task"] for seed in range(50)]
    env = Instructions(Corridor(), tasks)
    assert [env.reset(seed=seed)[1]["task"] for seed in range(50)] == names
    share = np.mean([env.reset(seed=seed)[1]["task"] == "be at the left end" for seed in range(400)])
    assert abs(share - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 400)


def test_the_task_ends_the_episode_and_pays_for_it() -> None:
    env = Instructions(Corridor(), [at(0, "the left end"), at(1, "the second cell", reward=0.25)])
    observation, _ = begin(env, "be at the left end")
    assert observation == {"instruction": "be at the left end", "observation": "cell 2"}
    assert env.step(LEFT)[1:5] == (0.0, False, False, {"task": "be at the left end"})
    shown, *rest = env.step(LEFT)
    assert shown == {"instruction": "be at the left end", "observation": "cell 0"}
    assert rest == [1.0, True, False, {"is_success": True, "task": "be at the left end"}]
    begin(env, "be at the second cell")
    assert env.step(LEFT)[1:3] == (0.25, True)


def test_the_environment_s_own_end_is_no_success_of_another_task() -> None:
    env = Instructions(Corridor(), [at(0, "the left end")])
    env.reset(seed=0)
    env.step(RIGHT)
    assert env.step(RIGHT)[1:5] == (0.0, True, False, {"is_success": False, "task": "be at the left end"})


def test_success_on_the_last_allowed_step_terminates() -> None:
    env = Instructions(StepLimit(Corridor(), 2), [at(0, "the left end"), at(3, "the fourth cell")])
    begin(env, "be at the left end")
    env.step(LEFT)
    assert env.step(LEFT)[2:4] == (True, False)
    begin(env, "be at the fourth cell")
    env.step(LEFT)
    *_, terminated, truncated, info = env.step(LEFT)
    assert (terminated, truncated, info["is_success"]) == (False, True, False)


def test_a_task_for_the_end_is_judged_there_only() -> None:
    near = at(3, "the fourth cell", at_end=True)
    env = Instructions(StepLimit(Corridor(), 3), [near])
    env.reset(seed=0)
    assert env.step(RIGHT)[1:4] == (0.0, False, False)
    assert env.step(LEFT)[1:4] == (0.0, False, False)
    *_, reward, terminated, truncated, info = env.step(RIGHT)
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, False, True, True)


def test_a_task_may_pay_for_every_step() -> None:
    def nearness(moment: Moment, succeeded: bool) -> float:
        return 100.0 if succeeded else moment.reward - moment.env.unwrapped.place  # type: ignore[attr-defined]

    env = Instructions(Corridor(), [at(0, "the left end", reward=nearness)])
    env.reset(seed=0)
    assert [env.step(LEFT)[1] for _ in range(2)] == [-0.5 - 1, 100.0]


def test_the_environment_s_own_task_stands_among_others() -> None:
    env = Instructions(Corridor(), [Task(None), at(0, "the left end")])
    observation, _ = begin(env, "the environment's own")
    assert observation["instruction"] == "go to the right end"
    assert env.step(RIGHT)[1] == -0.5
    assert env.step(RIGHT)[1:5] == (10.0, True, False, {"is_success": True, "task": "the environment's own"})


def test_a_text_of_a_task_is_drawn_and_may_be_a_function_of_the_beginning() -> None:
    def say_where(moment: Moment) -> str:
        return f"you begin in {moment.observation['observation']} ({moment.number} steps): go to the left end"

    task = at(0, "the left end")
    env = Instructions(Corridor(), [Task(("go left twice", "left end!", say_where), success=task.success)])
    said = Counter(env.reset(seed=seed)[0]["instruction"] for seed in range(300))
    assert set(said) == {"go left twice", "left end!", "you begin in cell 2 (0 steps): go to the left end"}
    assert min(said.values()) > 70  # 100 each on average; 70 is 3.7 standard deviations below
    assert env.reset(seed=5)[1]["task"] == "go left twice"


def test_only_what_is_possible_is_given() -> None:
    def never(moment: Moment) -> bool:
        return bool(moment.observation["observation"] == "cell 0")

    env = Instructions(Corridor(), [at(0, "the left end", possible=never, weight=99), at(1, "the second cell")])
    assert {env.reset(seed=seed)[1]["task"] for seed in range(30)} == {"be at the second cell"}
    assert env.impossible_instructions() == ("be at the left end",)
    with pytest.raises(ContractError, match=r"None of the tasks \['be at the left end'\] is possible .*'cell 2'"):
        Instructions(Corridor(), [at(0, "the left end", possible=never)]).reset(seed=0)


def test_other_weights_change_the_draw_of_the_task_and_nothing_else() -> None:
    tasks = [Task(("a", "b", "c"), success=lambda moment: False, name="letters"), at(0, "the left end")]
    env = Instructions(Corridor(), tasks)
    before = {seed: env.reset(seed=seed) for seed in range(60)}
    env.set_weights([1.0, 0.0])
    for seed, (observation, info) in before.items():
        now, told = env.reset(seed=seed)
        assert told["task"] == "letters"
        if info["task"] == "letters":
            assert now == observation


def test_it_tells_what_could_be_done_instead_and_what_was() -> None:
    env = Instructions(Corridor(), [at(0, "the left end"), at(1, "the second cell"), at(3, "the fourth", reward=0.5)])
    begin(env, "be at the left end")
    assert env.possible_instructions() == ("be at the fourth", "be at the second cell")
    assert env.fulfilled_instructions() == {}
    told = []
    for action in (RIGHT, LEFT, LEFT, RIGHT, LEFT):
        env.step(action)
        told.append(dict(env.fulfilled_instructions()))
    # Once each: an episode under that instruction would have ended there.
    assert told == [{"be at the fourth": 0.5}, {}, {"be at the second cell": 1.0}, {}, {}]


def test_what_is_done_already_or_comes_before_or_after_cannot_stand_in_the_place_of_a_task() -> None:
    tasks = [
        at(2, "the middle"),  # where every episode begins
        at(3, "the fourth"),
        at(1, "the second"),
        at(0, "the left end", first=("be at the second",)),
        Task("turn back", success=lambda moment: moment.info["turned"], first=("be at the left end",)),
    ]
    env = Instructions(Corridor(), tasks)
    expected = {
        "be at the fourth": {"be at the second", "be at the left end", "turn back"},
        "be at the second": {"be at the fourth"},
        "be at the left end": {"be at the fourth"},
        "turn back": {"be at the fourth"},
    }
    for own, others in expected.items():
        begin(env, own)
        assert set(env.possible_instructions()) == others
    for wrong in ("no such task", "be at the left end"):
        with pytest.raises(ValueError, match=f"says that '{wrong}' comes first, but no other task is called so"):
            Instructions(Corridor(), [at(0, "the left end", first=(wrong,))])


def test_tasks_that_pay_on_the_way_or_at_the_end_cannot_stand_for_others() -> None:
    paying = Task("hurry", success=lambda moment: False, reward=lambda moment, succeeded: -1.0)
    env = Instructions(Corridor(), [at(0, "the left end"), paying, at(3, "the fourth", at_end=True), Task(None)])
    begin(env, "be at the left end")
    assert env.possible_instructions() == ()
    begin(env, "hurry")
    env.step(LEFT)
    assert env.step(LEFT)[0]["observation"] == "cell 0"
    assert env.fulfilled_instructions() == {}


def test_an_evaluation_swaps_tasks_in_the_same_world() -> None:
    tasks = Instructions(Corridor(), [at(0, "the left end"), at(3, "the fourth cell")])
    env = EitherInstruction(tasks, (), purpose="swapped")
    _, info = env.reset(seed=drawn(tasks, "be at the left end"))
    assert (info["instruction"], info["shown"]) == ("be at the left end", "be at the fourth cell")
    *_, terminated, _, info = env.step(RIGHT)
    assert (terminated, info["is_success"], info["shown_success"]) == (True, False, True)


def test_parts_of_an_instruction_are_other_tasks() -> None:
    seen = {"left": False}

    def both(moment: Moment) -> bool:
        place: int = moment.env.unwrapped.place  # type: ignore[attr-defined]
        seen["left"] = moment.number > 1 and (seen["left"] or place == 1)
        return seen["left"] and place == 3

    long = Task("be at the second cell, then be at the fourth", success=both)
    env = Instructions(Corridor(), [long, at(1, "the second cell"), at(3, "the fourth")])
    env.set_weights([1, 0, 0])
    paid = SubInstructionRewards(env, 0.125)
    paid.reset(seed=0)
    assert [paid.step(action)[1] for action in (LEFT, RIGHT)] == [0.125, 0.0]


def test_the_expert_knows_the_environment_s_own_task_only() -> None:
    env = Instructions(Corridor(), [Task(("walk to the right", "right!")), at(0, "the left end")])
    expert = expert_of(env)
    assert expert is not None
    begin(env, "walk to the right")
    assert expert() == RIGHT
    begin(env, "be at the left end")
    with pytest.raises(ExpertError, match="own task only, not 'be at the left end'"):
        expert()


def make_tasks() -> Instructions:
    return Instructions(make_env("BabyAI-GoToLocal-v0"), [Task(None), Task("turn around", success=_turned)])


def _turned(moment: Moment) -> bool:
    level: Any = moment.env
    return moment.number >= 2 and int(level.agent_dir) == 2


def test_a_vector_comes_back_to_where_it_was() -> None:
    env = LanguageVecEnv([make_tasks] * 4, seed=1)
    actions = np.random.default_rng(0).integers(3, size=(60, 4))
    env.reset()
    done = set()
    for row in actions[:40]:
        words, _, dones, infos = env.step(row)
        done |= {info["task"] for info, over in zip(infos, dones, strict=True) if over}
    assert done == {"the environment's own", "turn around"}
    again = LanguageVecEnv([make_tasks] * 4, seed=7)
    restored = again.set_state(env.get_state())
    assert isinstance(words, dict)
    assert list(restored["instruction"]) == list(words["instruction"])
    for row in actions[40:]:
        ours, theirs = env.step(row), again.step(row)
        assert ours[1].tolist() == theirs[1].tolist()
        assert list(ours[0]["instruction"]) == list(theirs[0]["instruction"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Instructions(Corridor(), []), "There is no task to give"),
        (lambda: Instructions(Corridor(), [Task("a"), Task("a")]), "Two tasks are called 'a'"),
        (lambda: Task(()), "needs a text at least"),
        (lambda: Task(("go", " ")), "some words, or a function that returns them, but is ' '"),
        (lambda: Task(str), "needs a name"),
        (lambda: Task("a", weight=0), "The weight of 'a' is 0, but must be a positive number"),
        (lambda: Task("a", at_end=True), "judged at the end, but has no `success`"),
        (lambda: Task("a", reward=1.0), "has a reward for success, but no `success`"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
