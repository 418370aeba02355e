# mypy: disable-error-code="arg-type, attr-defined, list-item, type-var"
"""Spaces are what they say: observations and actions of any legal space, with their starts, bounds and infinities."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from heed.agents import PPO
from heed.envs import AutomaticVerbalizer, FreeText, LanguageVecEnv, VerbalizedEnv, check_env
from heed.envs.contract import ContractError, as_action, language_space
from heed.envs.words.plain_actions import learned_actions
from heed.policies.modalities.modality import modalities_of
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.prompt import PromptVecEnv

FLOATS, INTEGERS = (np.float16, np.float32, np.float64), (np.int8, np.uint8, np.int32, np.int64, np.uint64)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw: Any, shape: Any = SHAPES, dtypes: Any = (*FLOATS, *INTEGERS)) -> spaces.Box:
    """Boxes with any bounds that their type has, infinities and the ends of the type among them."""
    dtype, size = draw(st.sampled_from(dtypes)), draw(shape)
    if np.issubdtype(dtype, np.floating):
        largest = float(np.finfo(dtype).max)
        bound = st.sampled_from([-math.inf, -largest, -1e4, -1.0, 0.0, 0.5, 3.0, 1e4, largest, math.inf])
        low, high = sorted(draw(st.lists(bound, min_size=2, max_size=2, unique=True)))
        low, high = min(low, largest), max(high, -largest)
    else:
        held = np.iinfo(dtype)
        largest = min(held.max, 2**63 - 2)  # Gymnasium draws from no larger ones
        bound = st.sampled_from(sorted({held.min, max(held.min, -5), 0, 1, 100, largest}))
        low, high = sorted(draw(st.lists(bound, min_size=2, max_size=2, unique=True)))
    return spaces.Box(np.full(size, low, dtype), np.full(size, high, dtype), dtype=dtype)


@st.composite
def starting(draw: Any, shape: Any = SHAPES) -> spaces.MultiDiscrete:
    size = draw(shape) or (1,)
    nvec = np.array(draw(st.lists(st.integers(1, 7), min_size=math.prod(size), max_size=math.prod(size)))).reshape(size)
    return spaces.MultiDiscrete(nvec, start=nvec * draw(st.integers(-9, 2**40)))


DISCRETE = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-(2**40), 2**40))
BINARY = SHAPES.map(lambda shape: spaces.MultiBinary(shape or 3))
SIMPLE = st.one_of(boxes(), DISCRETE, starting(), BINARY, st.just(spaces.Text(9, min_length=1)), st.just(FreeText(40)))
NODES = st.one_of(boxes(st.just((2,)), FLOATS[1:]), st.builds(spaces.Discrete, st.integers(1, 4)))
OBSERVATIONS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: spaces.Dict({f"k{i}": p for i, p in enumerate(parts)})
        ),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        inner.map(spaces.Sequence),
        st.lists(inner, min_size=1, max_size=3).map(spaces.OneOf),
        st.builds(spaces.Graph, NODES, st.one_of(st.none(), NODES)),
    ),
    max_leaves=5,
)
ACTIONS = st.one_of(DISCRETE, starting(), BINARY, boxes())


def extreme(space: spaces.Space[Any], value: Any, end: str) -> Any:
    """Return a value with the ends of its boxes, which may be infinite, in place of what was drawn."""
    if isinstance(space, spaces.Box):
        return getattr(space, end).copy()
    if isinstance(space, spaces.Dict):
        return {key: extreme(part, value[key], end) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(extreme(part, one, end) for part, one in zip(space.spaces, value, strict=True))
    return value


class Shows(gymnasium.Env[Any, Any]):
    """Shows values of a space one after the other, and takes actions of another."""

    def __init__(self, space: spaces.Space[Any], action_space: spaces.Space[Any] | None = None):
        self.observation_space = space
        self.action_space: spaces.Space[Any] = spaces.Discrete(2) if action_space is None else action_space
        space.seed(0)
        drawn = [space.sample() for _ in range(2)]
        self.values = [extreme(space, drawn[0], "low"), drawn[1], extreme(space, drawn[0], "high")]
        self.taken: list[Any] = []
        self.count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        self.taken.append(np.copy(action))
        return self._shown(), 0.0, self.count % 3 == 0, False, {}

    def _shown(self) -> Any:
        self.count += 1
        return self.values[self.count % 3]


def in_words(env: gymnasium.Env[Any, Any]) -> VerbalizedEnv:
    return VerbalizedEnv(AutomaticVerbalizer(env))


@given(OBSERVATIONS)
def test_any_observation_is_said_and_read(space: spaces.Space[Any]) -> None:
    venv = LanguageVecEnv([lambda: in_words(Shows(space))], seed=0, max_lost=0)
    assert isinstance(venv.observation_space, spaces.Dict)
    modalities = modalities_of(venv.observation_space, venv.action_space)
    env = PromptVecEnv(venv, load_language_model("heed-tiny-random").encoder(max_tokens=256, modalities=modalities))
    rows = [env.reset()] + [env.step(np.zeros(1, int))[0] for _ in range(6)]
    assert venv.lost_count == 0
    if "numbers" in env.encoder.layout.keys:
        packed = env.encoder.layout.split(torch.from_numpy(np.concatenate(rows))).packed["numbers"]
        numbers = packed.contiguous().view(torch.float32).numpy()
        assert np.isfinite(numbers).all()
    checked = {check.name: check for check in check_env(lambda: in_words(Shows(space)), episodes=2, reward_episodes=1)}
    assert checked["reset and step"].passed, checked["reset and step"].detail


@given(ACTIONS, st.integers(0, 2**32 - 1))
def test_any_action_is_one_of_the_environments(space: spaces.Space[Any], seed: int) -> None:
    env = Shows(spaces.Discrete(2), space)
    venv = LanguageVecEnv([lambda: in_words(env)], seed=0, max_lost=0)
    venv.reset()
    venv.action_space.seed(seed)
    box = isinstance(venv.action_space, spaces.Box)
    ends = [extreme(venv.action_space, None, end) for end in ("low", "high") if box]
    for action in [venv.action_space.sample() for _ in range(5)] + ends:
        venv.step(np.array([action]))
    if box:
        drawn = np.full(venv.action_space.shape, 2.6e9, np.float32)  # as a policy draws them, and SB3 clips them
        venv.step(np.clip(drawn, venv.action_space.low, venv.action_space.high)[None])
    assert venv.lost_count == 0
    assert all(taken.shape == (space.shape or ()) for taken in env.taken)


@pytest.mark.parametrize(
    ("plain", "chosen", "taken"),
    [
        (spaces.Discrete(3, start=5), 2, 7),
        (spaces.Discrete(3, start=-1), 0, -1),
        (spaces.MultiDiscrete([2, 11], start=[0, 25]), [1, 10], [1, 35]),
        (spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 2], [3, 4]]), [1, 2, 3, 4], [[2, 4], [6, 8]]),
        (spaces.MultiBinary([2, 2]), [1, 0, 0, 1], [[1, 0], [0, 1]]),
        (spaces.MultiBinary([3]), [1, 0, 1], [1, 0, 1]),
        (spaces.Box(-1.0, 1.0, ()), [0.5], 0.5),
        (spaces.Box(-np.inf, 1.0, (1, 2)), [[-1e30, 0.5]], [[np.float32(-1e30).item(), 0.5]]),
    ],
)
def test_actions_count_from_the_start(plain: spaces.Space[Any], chosen: Any, taken: Any) -> None:
    learned, to_plain = learned_actions(plain)
    assert np.asarray(chosen, dtype=learned.dtype) in learned if not isinstance(chosen, int) else chosen in learned
    assert to_plain is not None
    action = to_plain(as_action(learned, chosen))
    assert np.asarray(action).tolist() == taken
    assert action in plain


def test_whole_numbers_are_rounded_and_others_are_not() -> None:
    assert as_action(spaces.Box(0, 10, (2,), np.int32), np.array([9.6, 0.4])).tolist() == [10, 0]
    assert as_action(spaces.Box(-np.inf, np.inf, (1,), np.float64), np.array([9.6])).tolist() == [9.6]


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([3, 4], start=[5, -7]),
        spaces.MultiDiscrete([[2, 2], [2, 2]]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
        spaces.Box(0, 3, (2,), np.uint8),
        spaces.Box(-1.0, 1.0, ()),
    ],
    ids=str,
)
def test_a_training_acts_in_it(space: spaces.Space[Any]) -> None:
    env = Shows(spaces.Discrete(2), space)
    venv = LanguageVecEnv([lambda: in_words(env)], seed=0, max_lost=0)
    kwargs = {"model": load_language_model("heed-tiny-random"), "head": "linear", "max_prompt_tokens": 32}
    PPO(env=venv, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu", policy_kwargs=kwargs).learn(16)
    assert len(env.taken) == 16
    assert venv.lost_count == 0


class Speaks(Shows):
    """Speaks, with auxiliary numbers and a picture; one of its values is something else."""

    action_texts: Any = ("left", "right")

    def __init__(self, key: str = "", value: Any = None, action_space: spaces.Space[Any] | None = None):
        numbers, image = spaces.Box(0, np.inf, (2,), np.float32), spaces.Box(0, 255, (4, 4, 3), np.uint8)
        super().__init__(language_space(numbers=numbers, image=image), action_space)
        self.values = [{**value_, "instruction": "go", "observation": "here"} for value_ in self.values]
        if key:
            self.values = [{**told, key: value} for told in self.values]


WHAT_IS_GIVEN = {
    "infinity": ("numbers", np.array([np.inf, 1], np.float32), True),
    "larger than float32": ("numbers", np.array([1e300, 1]), True),
    "float64": ("numbers", np.array([0.5, 1.5]), True),
    "whole numbers": ("numbers", np.array([1, 2]), True),
    "a list": ("numbers", [1.0, 2.0], True),
    "below the bounds": ("numbers", np.array([-3, 1], np.float32), True),
    "NaN": ("numbers", np.array([np.nan, 1], np.float32), False),
    "another shape": ("numbers", np.zeros(3, np.float32), False),
    "no numbers": ("numbers", np.array(["1", "2"]), False),
    "bytes as int64": ("image", np.full((4, 4, 3), 255, np.int64), True),
    "beyond bytes": ("image", np.full((4, 4, 3), 256, np.int64), False),
    "below bytes": ("image", np.full((4, 4, 3), -1, np.int8), False),
    "a picture of reals": ("image", np.full((4, 4, 3), 0.5), False),
    "half of a character": ("observation", "\ud800", False),
    "no string": ("instruction", None, False),
    "empty": ("observation", " ", False),
}


@pytest.mark.parametrize("case", WHAT_IS_GIVEN)
def test_checks_and_trainings_agree(case: str) -> None:
    key, value, passes = WHAT_IS_GIVEN[case]
    checked = {check.name: check for check in check_env(lambda: Speaks(key, value), episodes=2, reward_episodes=1)}
    assert checked["reset and step"].passed == passes
    venv = LanguageVecEnv([lambda: Speaks(key, value)], seed=0, max_lost=0)
    assert isinstance(venv.observation_space, spaces.Dict)
    modalities = modalities_of(venv.observation_space, venv.action_space)
    env = PromptVecEnv(venv, load_language_model("heed-tiny-random").encoder(max_tokens=64, modalities=modalities))
    if passes:
        rows = env.reset()
        assert np.isfinite(rows[:, 64:66].copy().view(np.float32)).all()
        return
    with pytest.raises((RuntimeError, ValueError)) as refused:
        env.reset()
    said = checked["reset and step"].detail.rpartition(": ")[0] or f"an empty {key}"
    assert said.partition("not in the space: ")[2].partition(":")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.MultiDiscrete([3], start=[4]), "its actions start at [4], but they must start at 0"),
        (spaces.MultiDiscrete([[3]]), "its actions have the shape (1, 1), but must have one dimension"),
        (spaces.MultiBinary([2, 2]), "its actions have several dimensions"),
        (spaces.Box(0, 1, ()), "its actions have the shape ()"),
        (spaces.Box(-np.inf, 1, (2,)), "its actions have no bounds"),
        (spaces.Tuple([spaces.Discrete(2)]), "it has an action space that SB3 cannot act in: Tuple(Discrete(2))"),
        (spaces.Dict(a=spaces.Discrete(2)), "it has an action space that SB3 cannot act in"),
    ],
    ids=str,
)
def test_actions_that_cannot_be_learned_are_refused_alike(space: spaces.Space[Any], said: str) -> None:
    checked = {check.name: check for check in check_env(lambda: Speaks(action_space=space))}
    assert said in checked["actions"].detail
    with pytest.raises(ContractError) as refused:
        LanguageVecEnv([lambda: Speaks(action_space=space)])
    assert checked["actions"].detail in str(refused.value)
