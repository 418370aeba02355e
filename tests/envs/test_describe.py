"""Any space in words: readable, and different where values differ."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from gymnasium.spaces import GraphInstance

from heed.envs.words.auxiliary import MOST_NUMBERS, AuxiliaryObservations, as_numbers
from heed.envs.words.describe import Describer, describe, number_in_words
from heed.envs.words.large_arrays import COLOURS, MOST_SPELT

FLOATS = spaces.Box(-1, 1, (3,))
GRAPH = spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Discrete(4))


def graph(nodes: list[Any], edges: list[int] | None, links: list[Any] | None) -> GraphInstance:
    return GraphInstance(
        np.array(nodes, dtype=np.float32).reshape(-1, 2),
        None if edges is None else np.array(edges),
        None if links is None else np.array(links),
    )


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (spaces.Discrete(5), np.int64(3), "3"),
        (spaces.Discrete(5, start=-2), -1, "-1"),
        (FLOATS, np.array([0.12345, -0.0, 1], dtype=np.float32), "0.123 0 1"),
        (FLOATS, np.array([np.nan, np.inf, -np.inf]), "not a number infinity minus infinity"),
        (spaces.Box(-1, 1, ()), np.float32(0.5), "0.5"),
        (spaces.Box(-1, 1, (0,)), np.zeros(0), "nothing"),
        (spaces.Box(-1, 1, (2, 2)), np.eye(2, dtype=np.float32), "1 0, 0 1"),
        (spaces.Box(0, 9, (2, 1, 3), dtype=np.int32), np.arange(6).reshape(2, 1, 3), "0 1 2 / 3 4 5"),
        (spaces.Box(0, 99_999, (2,), dtype=np.int64), np.array([12_345, 7]), "12345 7"),
        (spaces.MultiDiscrete([3, 9]), np.array([2, 8]), "2 8"),
        (spaces.MultiDiscrete(np.array([[3, 9], [3, 9]])), np.array([[2, 8], [0, 1]]), "2 8, 0 1"),
        (spaces.MultiBinary(4), np.array([1, 0, 0, 1]), "on: 0, 3"),
        (spaces.MultiBinary(4), np.zeros(4, dtype=np.int8), "none on"),
        (spaces.MultiBinary([2, 2]), np.array([[0, 1], [1, 0]]), "on: 0 1, 1 0"),
        (spaces.Text(20), "a note", "a note"),
        (spaces.Text(20), "", '""'),
        (spaces.Tuple([spaces.Discrete(3), spaces.Discrete(3)]), (1, 2), "first 1; second 2"),
        (spaces.Sequence(spaces.Discrete(3)), (1, 2), "2 items: 1, 2"),
        (spaces.Sequence(spaces.Discrete(3)), (), "no items"),
        (spaces.Sequence(FLOATS, stack=True), np.array([[0, 1, 0.25]], dtype=np.float32), "1 item: 0 1 0.25"),
        (spaces.Sequence(spaces.Sequence(spaces.Discrete(3))), ((1,), ()), "2 items: (1 item: 1), (no items)"),
        (spaces.OneOf([spaces.Discrete(3), FLOATS]), (1, np.zeros(3)), "option 1: 0 0 0"),
        (
            GRAPH,
            graph([[0, 1], [0.5, 0]], [3], [[1, 0]]),
            "2 nodes: 0 is 0 1, 1 is 0.5 0; 1 edge: 1 to 0 is 3",
        ),
        (GRAPH, graph([], None, None), "no nodes; no edges"),
        (spaces.Graph(spaces.Discrete(2), None), GraphInstance(np.array([1]), None, None), "1 node: 0 is 1; no edges"),
        (spaces.Dict(), {}, "nothing"),
    ],
)
def test_a_space_in_words(space: spaces.Space[Any], value: Any, words: str) -> None:
    assert describe(space, value) == words


def test_nested_fields_are_called_by_their_keys() -> None:
    space = spaces.Dict(
        {
            "door_state": spaces.Text(30),
            "desk": spaces.Dict(lamp=spaces.MultiBinary(2), size=spaces.Box(0, 9, (2,))),
            "bag": spaces.Sequence(spaces.Dict(kind=spaces.Discrete(9), note=spaces.Text(9))),
        }
    )
    value = {
        "door_state": "open",
        "desk": {"lamp": [0, 1], "size": [1.5, 2]},
        "bag": ({"kind": 4, "note": "a, b"}, {"kind": 0, "note": "c"}),
    }
    told = {
        "door_state": "door state open",
        "desk": "desk lamp on: 1; desk size 1.5 2",
        "bag": 'bag 2 items: (kind 4; note "a, b"), (kind 0; note c)',
    }
    assert describe(space, value) == "; ".join(told[key] for key in space.spaces)


def test_names_come_before_their_numbers() -> None:
    names = ("cart position", "cart velocity", "angle")
    assert describe(FLOATS, np.array([0.5, 0, -1]), names=names) == "cart position 0.5; cart velocity 0; angle -1"
    lamps = spaces.MultiBinary(3)
    assert describe(lamps, [1, 0, 1], names=("desk", "hall", "bed")) == "on: desk, bed"
    nested = spaces.Dict(arm=FLOATS, other=spaces.Discrete(2))
    told = describe(nested, {"arm": np.zeros(3), "other": 1}, names={"arm": ("x", "y", "z")})
    assert told == "arm x 0; arm y 0; arm z 0; other 1"
    assert describe(spaces.Sequence(FLOATS), (np.ones(3),), names=None) == "1 item: 1 1 1"
    with pytest.raises(ValueError, match="2 names for 3 fields"):
        describe(FLOATS, np.zeros(3), names=("x", "y"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.012345, "0.0123"),
        (-4.0, "-4"),
        (999.7, "1000"),
        (123_456.7, "123457"),
        (2_345_678.0, "2.35e6"),
        (0.0000123, "1.23e-5"),
        (math.nan, "not a number"),
        (math.inf, "infinity"),
        (-math.inf, "minus infinity"),
    ],
)
def test_numbers_in_words(number: float, words: str) -> None:
    assert number_in_words(number) == words


def test_digits_say_how_precise_numbers_are() -> None:
    assert describe(FLOATS, np.array([0.123456, 0, 0]), digits=5) == "0.12346 0 0"
    assert number_in_words(1234.56, digits=6) == "1234.56"


def test_changes_are_told_on_request() -> None:
    before, now = np.array([0.01, 0.5, 0]), np.array([0.02, 0.5, -1])
    names = ("position", "speed", "angle")
    words = describe(FLOATS, now, names=names, before=before)
    assert words == "position 0.02 (+0.01); speed 0.5; angle -1 (-1)"
    assert describe(FLOATS, now, before=before) == "0.02 (+0.01) 0.5 -1 (-1)"
    # A Discrete's numbers are no quantities; bytes do not wrap around; what is not finite has no difference.
    assert describe(spaces.Discrete(9), 2, before=5) == "2 (was 5)"
    assert describe(spaces.MultiDiscrete([9, 9]), [2, 3], before=[5, 3]) == "2 (was 5) 3"
    levels = spaces.Box(0, 255, (2,), dtype=np.uint8)
    assert describe(levels, np.array([3, 9], np.uint8), before=np.array([5, 9], np.uint8)) == "3 (-2) 9"
    strange = [np.array(v) for v in ([math.inf, math.nan, 1], [0, math.nan, math.inf])]
    assert describe(FLOATS, strange[0], before=strange[1]) == "infinity (was 0) not a number 1 (was infinity)"
    door = spaces.Dict(door=spaces.Text(9), lamps=spaces.MultiBinary(2))
    was, is_now = {"door": "shut", "lamps": [0, 1]}, {"door": "open", "lamps": [0, 1]}
    assert describe(door, is_now, before=was) == "door open (was shut); lamps on: 1"


def values_of(space: spaces.Space[Any]) -> list[Any]:
    """All values of a space without real numbers, lists up to two items; texts that look like what is around them."""
    match space:
        case spaces.Discrete():
            return [int(space.start) + i for i in range(int(space.n))]
        case spaces.MultiBinary():
            return [list(bits) for bits in itertools.product([0, 1], repeat=math.prod(space.shape))]
        case spaces.MultiDiscrete():
            return [list(row) for row in itertools.product(*(range(int(n)) for n in space.nvec))]
        case spaces.Text():
            return ["a", "b", "", "a; b", "a, b", "(a)", '"a"', "no items", " a", "1 item: a", "a) b", "a; second b"]
        case spaces.Tuple():
            return list(itertools.product(*(values_of(part) for part in space.spaces)))
        case spaces.Dict():
            rows = itertools.product(*(values_of(part) for part in space.spaces.values()))
            return [dict(zip(space.spaces, row, strict=True)) for row in rows]
        case spaces.Sequence():
            items = values_of(space.feature_space)
            return [(), *[(item,) for item in items], *itertools.product(items, repeat=2)]
        case spaces.OneOf():
            return [(i, value) for i, part in enumerate(space.spaces) for value in values_of(part)]
        case _:
            raise AssertionError(space)


WORD = spaces.Text(20)
BIT = spaces.Discrete(2)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Tuple([WORD, WORD]),
        spaces.Dict(a=WORD, b=spaces.Dict(a=BIT, b=WORD)),
        spaces.Sequence(WORD),
        spaces.Tuple([spaces.Sequence(BIT), spaces.Sequence(BIT)]),
        spaces.Sequence(spaces.Sequence(BIT)),
        spaces.Sequence(spaces.Tuple([BIT, spaces.Sequence(BIT)])),
        spaces.Sequence(spaces.Dict(a=WORD, b=BIT)),
        spaces.OneOf([BIT, WORD, spaces.Sequence(BIT), spaces.Tuple([BIT, WORD])]),
        spaces.Sequence(spaces.OneOf([BIT, spaces.MultiBinary(2)])),
        spaces.Tuple([spaces.MultiBinary([2, 2]), spaces.MultiDiscrete([2, 2, 3])]),
    ],
    ids=str,
)
def test_different_values_have_different_words(space: spaces.Space[Any]) -> None:
    values = values_of(space)
    words = [Describer(space)(value) for value in values]
    assert len(values) > 10
    assert len(set(words)) == len(values)


def test_random_values_of_every_space_are_told_apart() -> None:
    """Arrays and graphs too: equal words only where all numbers are equal to three digits."""
    space = spaces.Dict(
        box=spaces.Box(-1e4, 1e4, (2, 3)),
        graph=spaces.Graph(spaces.Box(-1, 1, (1,)), spaces.Discrete(3)),
        list=spaces.Sequence(spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(3)])),
        one=spaces.OneOf([spaces.Box(-1, 1, (1,)), spaces.Graph(spaces.Discrete(2), None)]),
        seed=7,
    )
    describer = Describer(space)
    values = [space.sample() for _ in range(100)]
    words = [describer(value) for value in values]
    assert len(set(words)) == 100
    assert [Describer(space)(value) for value in values] == words
    assert all(text.strip() == text for text in words)


# -- what is too large, and auxiliary observations -------------------------------------------------------------


def test_a_picture_is_told_by_the_colours_of_its_nine_parts() -> None:
    picture = np.zeros((60, 90, 3), dtype=np.uint8)
    picture[:20, 60:] = (230, 30, 30)
    picture[20:40, :30] = (20, 40, 235)
    picture[40:, 30:60] = 255
    words = describe(spaces.Box(0, 255, picture.shape, dtype=np.uint8), picture)
    assert words == (
        "picture of 60 by 90, top black, black, red, middle blue, black, black, bottom black, white, black"
    )
    grey = np.full((30, 30), 130, dtype=np.uint8)
    words = describe(spaces.Box(0, 255, grey.shape, dtype=np.uint8), grey)
    assert words == "picture of 30 by 30, top grey, grey, grey, middle grey, grey, grey, bottom grey, grey, grey"


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_told_from_one_another(name: str) -> None:
    picture = np.broadcast_to(np.array(COLOURS[name], np.uint8), (5, 14, 3))
    assert describe(spaces.Box(0, 255, (5, 14, 3), dtype=np.uint8), picture).count(name) == 9


def test_a_large_array_is_told_by_its_range() -> None:
    space = spaces.Box(-9, 9, (10, 20))
    array = np.zeros((10, 20))
    array[3, 4], array[0, 0] = 5, -1
    assert describe(space, array) == "10 by 20 numbers from -1 to 5, mean 0.02, largest at 3 4"
    array[9, 9] = np.nan
    assert describe(space, array).endswith("mean 0.0201, largest at 3 4, 1 not finite")
    assert describe(space, np.full((10, 20), np.inf)) == "10 by 20 numbers, none of them finite"
    assert describe(spaces.MultiBinary(100), np.eye(10).ravel()) == "10 of 100 on"
    assert describe(spaces.Box(-1, 1, (MOST_SPELT,)), np.ones(MOST_SPELT)) == " ".join("1" * MOST_SPELT)
    many = spaces.Sequence(spaces.Discrete(2))
    assert describe(many, (1,) * (MOST_SPELT + 5)).endswith("1, 1, and 5 more")


def auxiliary(space: spaces.Space[Any], value: Any) -> dict[str, Any]:
    told = AuxiliaryObservations(space)
    given = told(value)
    assert given.keys() == told.spaces.keys()
    assert all(part.contains(given[key]) for key, part in told.spaces.items())
    return given


def test_real_numbers_are_auxiliary_observations_in_full() -> None:
    space = spaces.Dict(
        a=spaces.Box(-1, 1, (2, 2), dtype=np.float64), b=spaces.Tuple([spaces.Discrete(3), FLOATS]), c=spaces.Text(9)
    )
    three = np.array([0.1, 0.2, 0.3], np.float32)
    value = {"a": np.array([[0.123456, 1], [0, -1]]), "b": (2, three), "c": "x"}
    numbers = auxiliary(space, value)["numbers"]
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, np.array([0.123456, 1, 0, -1, 0.1, 0.2, 0.3], np.float32))
    three[:] = 0  # an environment may go on with its array
    assert numbers[-1] == np.float32(0.3)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([3, 4]),
        spaces.Box(0, 9, (5,), dtype=np.int64),
        spaces.Text(9),
        spaces.Sequence(FLOATS),
        spaces.Box(-1, 1, (MOST_NUMBERS + 1,)),
        spaces.Box(-1, 1, (0,)),
    ],
    ids=str,
)
def test_where_words_lose_nothing_or_there_is_no_place_there_are_no_auxiliary_observations(
    space: spaces.Space[Any],
) -> None:
    assert AuxiliaryObservations(space).spaces == {}
    assert AuxiliaryObservations(space)(space.sample()) == {}


def test_what_words_only_summarise_is_an_auxiliary_observation() -> None:
    grid = spaces.Box(0, 9, (9, 9), dtype=np.int64)
    value: npt.NDArray[Any] = np.arange(81).reshape(9, 9) % 10
    np.testing.assert_array_equal(auxiliary(grid, value)["numbers"], np.arange(81) % 10)
    switches = spaces.MultiBinary(100)
    assert auxiliary(switches, np.ones(100, dtype=np.int8))["numbers"].sum() == 100
    dice = spaces.MultiDiscrete([6] * 70, start=[1] * 70)
    assert auxiliary(dice, np.full(70, 6))["numbers"].max() == 6


def test_the_first_picture_is_the_image() -> None:
    picture = spaces.Box(0, 255, (12, 10, 3), dtype=np.uint8)
    space = spaces.Dict(near=picture, far=picture, speed=spaces.Box(0, 1, (1,)))
    value = space.sample()
    given = auxiliary(space, value)
    first = next(key for key in space.spaces if key != "speed")
    np.testing.assert_array_equal(given["image"], value[first])
    np.testing.assert_array_equal(given["numbers"], value["speed"])


def test_numbers_too_large_for_float32_are_infinite_without_a_warning() -> None:
    assert as_numbers(np.array([1e300, -1e300])).tolist() == [math.inf, -math.inf]
    space = spaces.Box(-1e300, 1e300, (1,), dtype=np.float64)
    assert auxiliary(space, np.array([2.0]))["numbers"].tolist() == [2.0]
